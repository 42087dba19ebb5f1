"""Telling a job's log from a byte offset on, until the job has ended and all of it is told."""

from __future__ import annotations

import codecs
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agents.job import results

_LOOK = 0.1
_LARGEST = 65536

Tell = Callable[[str, int], None]


def follow(folder: Path, offset: int, tell: Tell, stop: threading.Event) -> dict[str, Any] | None:
    """The job's result, after `tell(text, next_offset)` for everything in the log from `offset`; None when stopped.

    Texts are at most 64 KiB of log and end at a line's end, except inside a longer line and at the end of the log.
    Bytes that are not UTF-8 become U+FFFD; offsets count the bytes of the file.
    """
    while True:
        # Asked first: what is read after the end is all there is.
        result = results.ended(folder)
        offset = _tell_all(folder / results.LOG, offset, result, tell)
        if result is not None:
            return result
        if stop.wait(_LOOK):
            return None


def _tell_all(path: Path, offset: int, result: dict[str, Any] | None, tell: Tell) -> int:
    if not path.exists():
        return offset
    end = None if result is None else int(result["log_size"])
    with path.open("rb") as log:
        while True:
            log.seek(offset)
            chunk = log.read(_LARGEST if end is None else max(0, min(_LARGEST, end - offset)))
            text, used = _cut(chunk, last=end is not None and offset + len(chunk) == end)
            if not used:
                return offset
            offset += used
            tell(text, offset)


def _cut(chunk: bytes, *, last: bool) -> tuple[str, int]:
    """The text that may be told of this chunk, and how many bytes it is."""
    lines = chunk.rfind(b"\n") + 1
    if lines:
        return chunk[:lines].decode("utf-8", "replace"), lines
    if last or len(chunk) == _LARGEST:
        # A character that is cut in two is told with its second half, unless there will be none.
        return codecs.utf_8_decode(chunk, "replace", last)
    return "", 0
