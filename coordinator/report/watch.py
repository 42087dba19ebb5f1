"""Opens the report a user asked for. A report is called with each event and decides nothing."""

from __future__ import annotations

import contextlib
import time
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
def watching(progress: Progress, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> Iterator[Watch]:
    """A report on `stream` for as long as the block runs. `clock` counts the seconds of what is shown under way."""
    if progress is Progress.AUTO and stream.isatty():
        progress = Progress.TTY
    match progress:
        case Progress.TTY:
            from coordinator.report.live import live

            with live(stream, clock) as watch:
                yield watch
        case Progress.PLAIN | Progress.AUTO:
            yield _printing(stream, lines)
        case Progress.RAWJSON:
            yield _printing(stream, lambda event: [to_json_line(event)])
        case Progress.QUIET:
            yield _printing(stream, lambda event: lines(event) if isinstance(event, AttemptEnded) else [])


def _printing(stream: TextIO, texts: Callable[[Event], list[str]]) -> Watch:
    """Goes silent when nobody reads any more: a reader that leaves ends no build."""
    gone = False

    def watch(event: Event) -> None:
        nonlocal gone
        if not gone:
            try:
                stream.writelines(f"{text}\n" for text in texts(event))
                stream.flush()
            except OSError:
                gone = True

    return watch
