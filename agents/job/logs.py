"""The end of a job's log."""

from __future__ import annotations

import os
from pathlib import Path

from agents.job.results import LOG

_END = 16384


def tail(folder: Path) -> str:
    """The last lines of the log, at most 16 KiB."""
    with (folder / LOG).open("rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(0, size - _END))
        text = log.read().decode("utf-8", "replace")
    return text if size <= _END else text.partition("\n")[2]
