"""The host's memory, by /proc/meminfo, and how much it is short of it, by /proc/pressure."""

from __future__ import annotations

import re
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_PRESSURE = Path("/proc/pressure/memory")
_FULL = re.compile(r"^full avg10=([\d.]+)", re.MULTILINE)


def memory(text: str) -> dict[str, int]:
    """Parse /proc/meminfo, in bytes. `available` falls back to MemFree: kernels before 3.14 have no MemAvailable."""
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


def read() -> dict[str, int] | None:
    """Return the memory of this host now; None where the kernel does not tell it."""
    try:
        found = memory(_MEMINFO.read_text(encoding="ascii", errors="replace"))
    except OSError:
        return None
    return found if found["total"] else None


def stalled_share(path: Path = _PRESSURE) -> float | None:
    """Return the share of the last 10 s in which no program got on for want of memory; None where it is not counted.

    Documentation/accounting/psi.rst of Linux. Kernels of the Raspberry Pi count only with `psi=1`.
    """
    try:
        found = _FULL.search(path.read_text(encoding="ascii", errors="replace"))
    except OSError:  # also EOPNOTSUPP, where it is turned off
        return None
    return float(found[1]) / 100 if found else None
