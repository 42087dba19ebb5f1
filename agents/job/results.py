"""The result of a job: written once, as the last thing of the job. A job found dead without a result is LOST."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from agents.base import files, process, state
from agents.base.json_file import read_object
from agents.base.locks import locked
from agents.job import spec

FILE = "result.json"
LOG = "log"
HEARTBEAT = "heartbeat"
CANCELLED = "cancelled"
_STATES = frozenset({"BUILT", "FAILED", "LOST", "CANCELLED"})
_RESERVE = "result.reserve"
_RESERVED_BYTES = 16384
_MAX_MESSAGE_CHARS = 2000


def read(folder: Path) -> dict[str, Any] | None:
    """Return the job's result; None where there is none, or only a damaged file."""
    result = read_object(folder / FILE)
    return result if result.get("state") in _STATES and isinstance(result.get("log_size"), int) else None


def reserve(folder: Path) -> None:
    """Allocate space for the result while the disk has some, so that a job can still report a full disk."""
    with (folder / _RESERVE).open("wb") as file:
        file.write(b" " * _RESERVED_BYTES)


def finish(folder: Path, result: dict[str, Any]) -> None:
    """Write the result into the reserved space, flush it, and rename it to its place."""
    reserved = folder / _RESERVE
    with reserved.open("r+b") as file:
        file.write(_encode(result))
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    files.move(reserved, folder / FILE)


def settle(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Write a result for a job that never ran or is dead. Return the result that was written first: it counts."""
    # Lock a file that exists: a full disk may have no room for a new lock file.
    with locked(folder, spec.FILE):
        known = read(folder)
        if known is not None:
            return known
        if (folder / _RESERVE).is_file():
            finish(folder, result)
        else:
            files.write_whole(folder / FILE, _encode(result))
        return result


def ended(folder: Path) -> dict[str, Any] | None:
    """Return the job's result; None while it runs or before it was started.

    A dead job without a result gets one: CANCELLED where its cancellation was requested, else LOST with `reboot` or
    `vanished`. Processes that it left running are killed.
    """
    result = read(folder)
    if result is not None:
        return result
    known = process.read(folder)
    if known is None or process.is_alive(known):
        return None
    process.end_group(known)
    # Read again: the process may have written its result and exited between the two checks.
    return read(folder) or settle(folder, _verdict(folder, known))


def _verdict(folder: Path, known: process.Process) -> dict[str, Any]:
    began = (folder / process.FILE).lstat().st_mtime
    measures = {
        "seconds": max(0.0, round(_mtime(folder / HEARTBEAT, began) - began, 1)),
        "log_size": _size(folder / LOG),
    }
    if (folder / CANCELLED).exists():
        return {"state": "CANCELLED", **measures}
    if not known.pid:
        message = f"the file {process.FILE} of the job is damaged"
        return {"state": "LOST", "code": "vanished", "message": message, **measures}
    if known.boot_id != state.boot_id():
        return {"state": "LOST", "code": "reboot", "message": "the host was restarted during the build", **measures}
    message = f"the build's process {known.pid} ended without a result"
    return {"state": "LOST", "code": "vanished", "message": message, **measures}


def _mtime(path: Path, otherwise: float) -> float:
    return path.stat().st_mtime if path.exists() else otherwise


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _encode(result: dict[str, Any]) -> bytes:
    message = result.get("message")
    if isinstance(message, str) and len(message) > _MAX_MESSAGE_CHARS:
        result = {**result, "message": message[:_MAX_MESSAGE_CHARS] + "…"}
    return json.dumps(result).encode()
