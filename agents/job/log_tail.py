"""The end of a job's log."""

from __future__ import annotations

import os
from pathlib import Path

from agents.job.results import LOG

_TAIL_BYTES = 16384


def tail(folder: Path) -> str:
    """Return the last complete lines of the log, at most 16 KiB."""
    with (folder / LOG).open("rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(0, size - _TAIL_BYTES))
        text = log.read().decode("utf-8", "replace")
    return text if size <= _TAIL_BYTES else text.partition("\n")[2]
