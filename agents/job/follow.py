"""Send a job's log from a byte offset on, until the job has ended and all of its log is sent."""

from __future__ import annotations

import codecs
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from agents.base import process
from agents.base.errors import AgentError
from agents.job import results

_POLL_S = 0.1
# How often the result is looked for while the log does not grow and the process lives.
_LOOK_S = 1.0
# The process touches its heartbeat every 2 s. A disk that hangs for so long is told of on its own.
_STILL_S = 45.0
_MAX_CHUNK_BYTES = 65536

Tell = Callable[[str, int], None]


def follow(
    folder: Path,
    offset: int,
    tell: Tell,
    stop: threading.Event,
    poll: float = _POLL_S,
    still: float = _STILL_S,
) -> dict[str, Any] | None:
    """Call `tell(text, next_offset)` for the log from `offset` on. Return the job's result, or None once `stop` is set.

    The log and `stop` are looked at every `poll` seconds, the end of the job is seen at once.
    Texts are at most 64 KiB of log and end at a line's end, except inside a longer line and at the end of the log.
    Bytes that are not UTF-8 become U+FFFD; offsets count the bytes of the file. Raises AgentError `vanished` where the
    job's process lives and has stood still for `still` seconds: it was stopped, and would never write its result.
    """
    log = folder / results.LOG
    beat, beaten_at = _beat(folder), time.monotonic()
    while True:
        # Read the result before the log: once the job has ended, the log is complete.
        result = results.ended(folder)
        offset = _tell_all(log, offset, result, tell)
        if result is not None:
            return result
        if stop.is_set():
            return None
        if (latest := _beat(folder)) != beat:
            beat, beaten_at = latest, time.monotonic()
        if time.monotonic() - beaten_at > still and beat:
            raise AgentError("vanished", f"the job's process has stood still for {still:.0f} s")
        job = process.read(folder)
        if job is None:
            stop.wait(poll)
        else:
            process.await_end(job, max(poll, _LOOK_S), partial(_has_news, log, offset, stop), poll)


def _beat(folder: Path) -> int:
    """Return when the job's process last gave a sign of life, as its heartbeat file has it; 0 before it is there."""
    try:
        return (folder / results.HEARTBEAT).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _tell_all(path: Path, offset: int, result: dict[str, Any] | None, tell: Tell) -> int:
    if not path.is_file():
        return offset
    end = None if result is None else int(result["log_size"])
    with path.open("rb") as log:
        while True:
            log.seek(offset)
            chunk = log.read(_MAX_CHUNK_BYTES if end is None else max(0, min(_MAX_CHUNK_BYTES, end - offset)))
            text, used = _cut(chunk, last=end is not None and offset + len(chunk) == end)
            if not used:
                return offset
            offset += used
            tell(text, offset)


def _has_news(log: Path, offset: int, stop: threading.Event) -> bool:
    try:
        size = os.stat(log).st_size  # noqa: PTH116 - ten times a second, on a board that builds
    except FileNotFoundError:
        size = 0
    return stop.is_set() or size != offset


def _cut(chunk: bytes, *, last: bool) -> tuple[str, int]:
    """Return the text of this chunk that can be sent now, and its length in bytes of the log."""
    lines = chunk.rfind(b"\n") + 1
    if lines:
        return chunk[:lines].decode("utf-8", "replace"), lines
    if last or len(chunk) == _MAX_CHUNK_BYTES:
        # A UTF-8 character cut in two waits for its other bytes, unless the log has ended.
        return codecs.utf_8_decode(chunk, "replace", last)
    return "", 0
