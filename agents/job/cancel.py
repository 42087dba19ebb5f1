"""Ending a job on request: asked first, then killed."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from agents.base import process
from agents.base.errors import AgentError
from agents.base.locks import locked
from agents.job import results

_PATIENCE = 10.0
_AFTER_KILL = 5.0
_LOOK = 0.05


def cancel(folder: Path, patience: float = _PATIENCE) -> dict[str, Any]:
    """The job's result: the one it had, or the one it ends with now. It has `patience` seconds to end by itself."""
    with locked(folder):
        known = process.read(folder)
        if known is None:
            never_ran = {"state": "CANCELLED", "seconds": 0.0, "log_size": 0}
            return results.read(folder) or results.settle(folder, never_ran)
    result = results.ended(folder)
    if result is None:
        # Whoever finds the process dead reads here that it was meant to be; on a full disk it is called lost instead.
        with suppress(OSError):
            (folder / results.CANCELLED).touch()
        # Only the job itself is asked: it ends its engine in the way that engine needs.
        _ask(known)
        result = _wait(folder, patience)
    if result is None:
        process.end_group(known)
        result = _wait(folder, _AFTER_KILL)
    if result is None:
        raise AgentError("internal", f"process {known.pid} of the job does not end")
    return result


def _ask(known: process.Process) -> None:
    if process.is_alive(known):
        with suppress(ProcessLookupError):
            os.kill(known.pid, signal.SIGTERM)


def _wait(folder: Path, seconds: float) -> dict[str, Any] | None:
    until = time.monotonic() + seconds
    while True:
        result = results.ended(folder)
        if result is not None or time.monotonic() > until:
            return result
        time.sleep(_LOOK)
