"""The message and the hint for a full disk, wherever it is."""

from __future__ import annotations

from coordinator.domain.visible import file_word


def too_little_space(place: object, free: float | None, reason: str = "") -> str:
    """Return the message. `free` is in bytes, `None` where it is not known; `reason` is that of the system."""
    left = "" if free is None else f": {free / 1024**2:.0f} MiB free"
    of_system = f" ({reason.lower()})" if reason else ""
    return f"too little space below {place}{left}{of_system}"


def room_hint(folder: object, there: str = "") -> str:
    """Return the hint to make room on the disk of this folder; `there` says on which machine."""
    return f"make room{there}: df -h {file_word(folder)} shows the disk"
