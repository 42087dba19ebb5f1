"""Opens the report a user asked for. A report is called with each event and decides nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import TextIO

from coordinator.domain.events import AttemptEnded, Event
from coordinator.report.lines import lines
from coordinator.report.rawjson import to_json_line


class Progress(StrEnum):
    """`auto` is `tty` on a terminal and `plain` elsewhere."""

    AUTO = "auto"
    TTY = "tty"
    PLAIN = "plain"
    RAWJSON = "rawjson"
    QUIET = "quiet"


Watch = Callable[[Event], None]


@contextlib.contextmanager
def watching(progress: Progress, stream: TextIO) -> Iterator[Watch]:
    """A report on `stream` for as long as the block runs."""
    if progress is Progress.AUTO:
        progress = Progress.TTY if stream.isatty() else Progress.PLAIN
    match progress:
        case Progress.TTY:
            from coordinator.report.live import live

            with live(stream) as watch:
                yield watch
        case Progress.PLAIN | Progress.AUTO:
            yield lambda event: _write(stream, lines(event))
        case Progress.RAWJSON:
            yield lambda event: _write(stream, [to_json_line(event)])
        case Progress.QUIET:
            yield lambda event: _write(stream, lines(event) if isinstance(event, AttemptEnded) else [])


def _write(stream: TextIO, texts: list[str]) -> None:
    stream.writelines(f"{text}\n" for text in texts)
    stream.flush()
