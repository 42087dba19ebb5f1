"""The end of a job's log."""

from __future__ import annotations

import os
from pathlib import Path

from agents.job.results import LOG

# A program's last line may be 64 KiB long, and clients repeat the last lines of a step that failed.
_TAIL_BYTES = 1 << 18


def tail(folder: Path) -> str:
    """Return the last complete lines of the log, at most 256 KiB."""
    with (folder / LOG).open("rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(0, size - _TAIL_BYTES))
        text = log.read().decode("utf-8", "replace")
    return text if size <= _TAIL_BYTES else text.partition("\n")[2]
