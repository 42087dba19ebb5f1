"""The record of a run: a file with all of its events, written by the driver and read by later commands.

Each line is as `--progress rawjson` prints it. A resumed run appends to the same file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from coordinator.domain.run.events import Event, Notice, RunStarted, StepLine
from coordinator.report.rawjson import from_json_line, to_json_line
from coordinator.report.tail import Tail
from coordinator.report.watch import Watch
from coordinator.store.folders import private_folder

FILE_NAME = "events.jsonl"
# The build logs hold the output of builds too: a build with endless output must not fill the disk twice.
MOST_BYTES = 32 * 2**20


@contextlib.contextmanager
def recorded(shown: Watch, clock: Callable[[], float], most_bytes: int = MOST_BYTES) -> Iterator[Watch]:
    """Pass every event to `shown`, and record it in the run's folder from the first RunStarted on.

    Events before it are recorded first. `clock` gives epoch seconds. Once a record is longer than `most_bytes`, the
    output of builds is left out, but for the lines that begin or end a step. A write error ends the record, not the
    run.
    """
    early: list[tuple[float, Event]] = []
    with contextlib.ExitStack() as stack:
        record: _Record | None = None

        def watch(event: Event) -> None:
            nonlocal record
            at = clock()
            if record is not None:
                record.keep(at, event)
            else:
                early.append((at, event))
                if isinstance(event, RunStarted):
                    record = _Record(Path(event.log_folder), shown, most_bytes)
                    stack.callback(record.close)
                    for recorded_event in early:
                        record.keep(*recorded_event)
            # Shown after recording: a stopped terminal blocks `shown`, and must not delay the record.
            shown(event)

        yield watch


class RecordReader:
    """Reads a record from its beginning; each call continues where the previous one stopped."""

    def __init__(self, folder: Path) -> None:
        self._tail = Tail(folder / FILE_NAME)

    def new(self) -> Iterator[tuple[float, Event]]:
        """Yield the time and the event of each new complete line; nothing without a record.

        Events of a newer version are left out, and so is a line that was truncated when its writer died. Raises
        UsageError for a record that cannot be read.
        """
        for lines in self._tail.new():
            for line in lines.split(b"\n"):
                event = from_json_line(line)
                if event is not None:
                    yield event


class _Record:
    """The open record, until it is closed or a write fails."""

    def __init__(self, folder: Path, shown: Watch, most_bytes: int) -> None:
        self._path = folder / FILE_NAME
        self._shown = shown
        self._most_bytes = most_bytes
        self._left_out = False
        self._file: BinaryIO | None = None
        try:
            private_folder(folder)
            self._file = _opened(self._path)
        except OSError as error:
            shown(Notice(f"this run is not recorded: {self._path}: {error.strerror}"))

    def keep(self, at: float, event: Event) -> None:
        if self._file is None:
            return
        if isinstance(event, StepLine) and not event.step and self._file.tell() > self._most_bytes:
            if self._left_out:
                return
            self._left_out = True
            event = Notice("the rest of the build output is not recorded here: see archloom logs")
        try:
            # Bytes that are not UTF-8 are surrogates in the text: backslashreplace writes them as JSON escapes.
            _write(self._file, f"{to_json_line(event, at)}\n".encode(errors="backslashreplace"))
        except OSError as error:
            self._shown(Notice(f"the rest of this run is not recorded: {self._path}: {error.strerror}"))
            self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _opened(path: Path) -> BinaryIO:
    """Open the record to append to it, unbuffered: a follower sees each line at once."""
    file = path.open("a+b", buffering=0)
    end = file.seek(0, 2)
    if end:
        file.seek(end - 1)
        if file.read(1) != b"\n":
            # The previous writer died in the middle of a line.
            file.write(b"\n")
    return file


def _write(file: BinaryIO, line: bytes) -> None:
    while line:
        line = line[file.write(line) :]
