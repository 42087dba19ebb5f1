"""Cancel a job: SIGTERM first, SIGKILL after a timeout."""

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

_TERM_TIMEOUT_S = 10.0
_KILL_TIMEOUT_S = 5.0
_POLL_S = 0.05


def cancel(folder: Path, patience: float = _TERM_TIMEOUT_S) -> dict[str, Any]:
    """End the job and return its result: the one it already had, or the one it ends with now.

    The job gets SIGTERM, and SIGKILL after `patience` seconds. Raises AgentError `internal` where it does not end
    within 5 s of SIGKILL.
    """
    with locked(folder):
        known = process.read(folder)
        if known is None:
            never_ran = {"state": "CANCELLED", "seconds": 0.0, "log_size": 0}
            return results.read(folder) or results.settle(folder, never_ran)
    result = results.ended(folder)
    if result is None:
        # Tells `results.ended` that the death was requested. Where a full disk prevents the file, the job is LOST.
        with suppress(OSError):
            (folder / results.CANCELLED).touch()
        # Signal only the job's process: it ends the build in the way its engine needs.
        _ask(known)
        result = _wait(folder, patience)
    if result is None:
        process.end_group(known)
        result = _wait(folder, _KILL_TIMEOUT_S)
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
        time.sleep(_POLL_S)
