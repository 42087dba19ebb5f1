"""Open the report that the user chose. A report is called with each event and does not influence the run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, TextIO, cast

from coordinator.domain.run.events import AttemptEnded, Emit, Event, Kept
from coordinator.report.lines import lines
from coordinator.report.rawjson import to_json_line


class Progress(StrEnum):
    """`auto` is `tty` on a terminal and `plain` elsewhere."""

    AUTO = "auto"
    TTY = "tty"
    PLAIN = "plain"
    RAWJSON = "rawjson"
    QUIET = "quiet"


Watch = Emit


@contextlib.contextmanager
def watching(progress: Progress, stream: TextIO, clock: Callable[[], float] = time.time) -> Iterator[Watch]:
    """Open a report on `stream` for the duration of the block. `clock` gives epoch seconds.

    Without a reader the report stops, and the build continues.
    """
    stream = cast("TextIO", _Lasting(stream))
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
            yield _printing(stream, lambda event: [to_json_line(event, clock())])
        case Progress.QUIET:
            yield _printing(stream, lambda event: lines(event) if isinstance(event, AttemptEnded | Kept) else [])


def _printing(stream: TextIO, texts: Callable[[Event], list[str]]) -> Watch:
    def watch(event: Event) -> None:
        stream.write("".join(f"{text}\n" for text in texts(event)))
        stream.flush()

    return watch


class _Lasting:
    """A stream that ignores writes after the first error: the terminal is closed, or the pipe has no reader."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._gone = False

    def write(self, text: str) -> int:
        self._do(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._do(self._stream.flush)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any other attribute of the stream
        return getattr(self._stream, name)

    def _do(self, action: Callable[[], object]) -> None:
        if not self._gone:
            try:
                action()
            except OSError:
                self._gone = True
