"""How a job ended: written once, last, and by whoever knows. A job found dead without a result is lost."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from agents.base import process, state
from agents.base.locks import locked
from agents.job import spec

FILE = "result.json"
LOG = "log"
HEARTBEAT = "heartbeat"
CANCELLED = "cancelled"
_RESERVE = "result.reserve"
_RESERVED = 16384
_LONGEST_MESSAGE = 2000


def read(folder: Path) -> dict[str, Any] | None:
    """The result, where there is one."""
    try:
        result: dict[str, Any] = json.loads((folder / FILE).read_bytes())
    except FileNotFoundError:
        return None
    return result


def reserve(folder: Path) -> None:
    """Room for a result, taken while the disk has some: a full disk must not keep a job from saying so."""
    with (folder / _RESERVE).open("wb") as file:
        file.write(b" " * _RESERVED)


def finish(folder: Path, result: dict[str, Any]) -> None:
    """The job's own last word."""
    reserved = folder / _RESERVE
    with reserved.open("r+b") as file:
        file.write(_encode(result))
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    reserved.replace(folder / FILE)


def settle(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Somebody else's word on a job that cannot speak any more: the first one counts, and is returned."""
    # A file that is there, because a full disk has no room for a lock of its own.
    with locked(folder, spec.FILE):
        known = read(folder)
        if known is not None:
            return known
        if (folder / _RESERVE).exists():
            finish(folder, result)
        else:
            state.write_whole(folder / FILE, _encode(result))
        return result


def ended(folder: Path) -> dict[str, Any] | None:
    """The result of the job, None while it runs or before it was started.

    A dead job without a result gets one here (`vanished`, or `reboot`, or CANCELLED where that was asked), and what
    it left running is ended.
    """
    result = read(folder)
    if result is not None:
        return result
    known = process.read(folder)
    if known is None or process.is_alive(known):
        return None
    process.end_group(known)
    # Read again: it may have written its result and died between the two looks.
    return read(folder) or settle(folder, _verdict(folder, known))


def _verdict(folder: Path, known: process.Process) -> dict[str, Any]:
    began = (folder / process.FILE).stat().st_mtime
    measures = {
        "seconds": max(0.0, round(_mtime(folder / HEARTBEAT, began) - began, 1)),
        "log_size": _size(folder / LOG),
    }
    if (folder / CANCELLED).exists():
        return {"state": "CANCELLED", **measures}
    if known.boot_id != state.boot_id():
        return {"state": "LOST", "code": "reboot", "message": "the host was restarted during the build", **measures}
    message = f"the build's process {known.pid} is gone without a result"
    return {"state": "LOST", "code": "vanished", "message": message, **measures}


def _mtime(path: Path, otherwise: float) -> float:
    return path.stat().st_mtime if path.exists() else otherwise


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _encode(result: dict[str, Any]) -> bytes:
    message = result.get("message")
    if isinstance(message, str) and len(message) > _LONGEST_MESSAGE:
        result = {**result, "message": message[:_LONGEST_MESSAGE] + "…"}
    return json.dumps(result).encode()
