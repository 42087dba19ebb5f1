"""What the kernel says of this machine. What it does not say is None or absent; nothing here needs root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

_PROC, _SYS = Path("/proc"), Path("/sys")
_PER_LINUX32 = 0x0008
_PATIENCE = 2.0
# A sensor that is not there reads as -273 °C or as nonsense.
_COLDEST, _HOTTEST = -40.0, 150.0


def machine() -> dict[str, Any]:
    """The part of the observation that neither the engine nor a program has to be asked for."""
    uname = os.uname()
    return {
        "uptime": _first_number(_PROC / "uptime"),
        "uname": {"system": uname.sysname, "release": uname.release, "machine": uname.machine},
        "board": _text(_PROC / "device-tree/model").rstrip("\0\n"),
        "cpuinfo": cpuinfo(_text(_PROC / "cpuinfo")),
        "cores": len(os.sched_getaffinity(0)),
        "page_size": os.sysconf("SC_PAGESIZE"),
        "memory": memory(_text(_PROC / "meminfo")),
        "aarch32": _aarch32() if uname.machine == "aarch64" else None,
        "load": [round(load, 2) for load in os.getloadavg()],
        "temperature": temperature(_SYS / "class/thermal"),
        "throttled": _throttled(),
        "memory_cgroup": memory_cgroup(_SYS / "fs/cgroup", _PROC / "cgroups"),
    }


def cpuinfo(text: str) -> dict[str, Any]:
    """Of the first processor in /proc/cpuinfo: `architecture` (Arm's), `model`, `features`; empty where not said."""
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


def memory(text: str) -> dict[str, int]:
    """Bytes, from /proc/meminfo. `available` falls back to what is free: kernels before 3.14 do not say it."""
    fields = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdigit():
            fields[name] = int(words[0]) * 1024
    return {
        "total": fields.get("MemTotal", 0),
        "available": fields.get("MemAvailable", fields.get("MemFree", 0)),
        "swap_free": fields.get("SwapFree", 0),
    }


def temperature(zones: Path) -> float | None:
    """The hottest zone, in °C."""
    readings = []
    for path in zones.glob("thermal_zone*/temp"):
        with suppress(OSError, ValueError):
            readings.append(int(path.read_text(encoding="ascii")) / 1000)
    return max((reading for reading in readings if _COLDEST < reading < _HOTTEST), default=None)


def memory_cgroup(cgroup: Path, table: Path) -> bool | None:
    """Whether the kernel can limit the memory of a container; Raspberry Pi kernels start with that switched off."""
    controllers = _text(cgroup / "cgroup.controllers").split()
    if controllers:
        return "memory" in controllers
    for line in _text(table).splitlines():
        fields = line.split()
        if fields[:1] == ["memory"]:
            return fields[3:4] == ["1"]
    return None


def linger() -> bool:
    """Whether this user's services, such as a rootless engine, outlive the last logout."""
    with suppress(KeyError):
        return Path("/var/lib/systemd/linger", pwd.getpwuid(os.getuid()).pw_name).exists()
    return False


def disk(path: Path) -> tuple[int, int]:
    """Bytes free for us and in all, on the file system of this path or of what is there of it."""
    for place in (path, *path.parents):
        with suppress(OSError):
            status = os.statvfs(place)
            return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
    return 0, 0


def _aarch32() -> bool | None:
    """Whether the kernel gives 32-bit Arm programs to the CPU: with none that can, it refuses the personality."""
    answers: list[bool] = []

    def ask() -> None:
        # Some builds of Python come without it, and then nobody can ask.
        with suppress(ImportError):
            import ctypes

            answers.append(ctypes.CDLL(None).personality(_PER_LINUX32) != -1)

    # A personality is its thread's alone, so it ends with this one.
    asking = threading.Thread(target=ask)
    asking.start()
    asking.join()
    return answers[0] if answers else None


def _throttled() -> int | None:
    """The Raspberry Pi firmware's bits: 0 under-voltage, 1 capped, 2 throttled, 3 hot now; 16 to 19 since boot."""
    program = shutil.which("vcgencmd")
    if program is None:
        return None
    with suppress(OSError, subprocess.TimeoutExpired, ValueError):
        answer = subprocess.run(
            [program, "get_throttled"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE,
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
