"""Probes the host's kernel and hardware, without root. Values that the kernel does not report are None or absent."""

from __future__ import annotations

import os
import pwd
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from agents.base import memory

_PROC, _SYS = Path("/proc"), Path("/sys")
_PER_LINUX32 = 0x0008
_VCGENCMD_TIMEOUT_S = 2.0
# A missing sensor reads as -273 °C or as a value outside this range.
_MIN_CELSIUS, _MAX_CELSIUS = -40.0, 150.0


def machine() -> dict[str, Any]:
    """Return the part of the observation that needs neither the engine nor the docker command line."""
    uname = os.uname()
    return {
        "uptime": _first_number(_PROC / "uptime"),
        "uname": {"system": uname.sysname, "release": uname.release, "machine": uname.machine},
        "board": _text(_PROC / "device-tree/model").rstrip("\0\n"),
        "cpuinfo": cpuinfo(_text(_PROC / "cpuinfo")),
        "cores": len(os.sched_getaffinity(0)),
        "page_size": os.sysconf("SC_PAGESIZE"),
        "memory": memory.memory(_text(_PROC / "meminfo")),
        "aarch32": _aarch32() if uname.machine == "aarch64" else None,
        "load": [round(load, 2) for load in os.getloadavg()],
        "temperature": temperature(_SYS / "class/thermal"),
        "throttled": _throttled(),
        "memory_cgroup": memory_cgroup(_SYS / "fs/cgroup", _PROC / "cgroups"),
    }


def cpuinfo(text: str) -> dict[str, Any]:
    """Parse /proc/cpuinfo, first processor: `architecture` (Arm only), `model`, `features`; empty where missing."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return {
        "architecture": fields.get("CPU architecture", ""),
        "model": fields.get("model name") or fields.get("Processor") or "",
        "features": (fields.get("Features") or fields.get("flags") or "").split(),
    }


def temperature(zones: Path) -> float | None:
    """Return the temperature of the hottest thermal zone in °C; None without a plausible reading."""
    readings = []
    for path in zones.glob("thermal_zone*/temp"):
        with suppress(OSError, ValueError):
            readings.append(int(path.read_text(encoding="ascii")) / 1000)
    return max((reading for reading in readings if _MIN_CELSIUS < reading < _MAX_CELSIUS), default=None)


def memory_cgroup(cgroup: Path, table: Path) -> bool | None:
    """Return whether the memory cgroup controller is enabled; Raspberry Pi kernels disable it by default."""
    controllers = _text(cgroup / "cgroup.controllers").split()
    if controllers:
        return "memory" in controllers
    for line in _text(table).splitlines():
        fields = line.split()
        if fields[:1] == ["memory"]:
            return fields[3:4] == ["1"]
    return None


def linger() -> bool:
    """Return whether this user's services, such as a rootless engine, keep running after the last logout."""
    with suppress(KeyError):
        return Path("/var/lib/systemd/linger", pwd.getpwuid(os.getuid()).pw_name).exists()
    return False


def disk(path: Path) -> tuple[int, int]:
    """Return (free for this user, total) in bytes, of the file system of this path or its nearest existing parent."""
    for place in (path, *path.parents):
        with suppress(OSError):
            status = os.statvfs(place)
            return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
    return 0, 0


def _aarch32() -> bool | None:
    """Return whether the CPU runs 32-bit Arm programs: where none can, the kernel refuses PER_LINUX32."""
    answers: list[bool] = []

    def ask() -> None:
        # Some builds of Python lack ctypes; the answer is then None.
        with suppress(ImportError):
            import ctypes

            answers.append(ctypes.CDLL(None).personality(_PER_LINUX32) != -1)

    # A personality belongs to one thread, so the change ends with this thread.
    asking = threading.Thread(target=ask)
    asking.start()
    asking.join()
    return answers[0] if answers else None


def _throttled() -> int | None:
    """Return the Raspberry Pi firmware's bits: 0 under-voltage, 1 capped, 2 throttled, 3 hot now; 16-19 since boot."""
    # Without shutil, whose import takes longer than the whole probe.
    places = (Path(folder, "vcgencmd") for folder in os.environ.get("PATH", os.defpath).split(os.pathsep))
    program = next((str(path) for path in places if os.access(path, os.X_OK)), None)
    if program is None:
        return None
    with suppress(OSError, subprocess.TimeoutExpired, ValueError):
        answer = subprocess.run(
            [program, "get_throttled"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_VCGENCMD_TIMEOUT_S,
            check=False,
        )
        return int(answer.stdout.decode("ascii").strip().partition("=")[2], 16)
    return None


def _first_number(path: Path) -> float | None:
    with suppress(ValueError, IndexError):
        return float(_text(path).split()[0])
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
