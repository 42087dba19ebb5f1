"""The recorded event stream of a run: a file of its own, written by whoever drives it and read by all who ask later.

A line is what `--progress rawjson` prints. A run that is driven again goes on in the same file.
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
# What builds print is in their logs; a build that prints for ever must not fill the disk a second time.
MOST_BYTES = 32 * 2**20


@contextlib.contextmanager
def recorded(shown: Watch, clock: Callable[[], float], most_bytes: int = MOST_BYTES) -> Iterator[Watch]:
    """Passes every event on to `shown`, and writes it into the run's folder from the first RunStarted on.

    What came before is written first. `clock` gives epoch seconds. A record longer than `most_bytes` gets no more of
    what builds print, but for the lines that begin or end a step. A disk that takes no more costs the record, not
    the run.
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
            # A terminal that is stopped holds up what is shown, not what is recorded of it.
            shown(event)

        yield watch


class RecordReader:
    """Reads a record from its beginning, and goes on where it stopped when it is asked again."""

    def __init__(self, folder: Path) -> None:
        self._tail = Tail(folder / FILE_NAME)

    def new(self) -> Iterator[tuple[float, Event]]:
        """When each event was, and the event, of the lines that have become whole. Nothing where no record is.

        Events of a newer version are left out, and so is a line that was cut off when its writer died. Raises
        UsageError for a record that cannot be read.
        """
        for lines in self._tail.new():
            for line in lines.split(b"\n"):
                found = from_json_line(line)
                if found is not None:
                    yield found


class _Record:
    """The file, until it is closed or takes no more."""

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
            event = Notice("more of what the builds print is not recorded here: archloom logs has it")
        try:
            # What is not UTF-8 in a name or an output is a surrogate here, and its escape is JSON's own.
            _write(self._file, f"{to_json_line(event, at)}\n".encode(errors="backslashreplace"))
        except OSError as error:
            self._shown(Notice(f"the rest of this run is not recorded: {self._path}: {error.strerror}"))
            self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _opened(path: Path) -> BinaryIO:
    """The record to append to, without a buffer: each line is there for a follower at once, and whole or torn."""
    file = path.open("a+b", buffering=0)
    end = file.seek(0, 2)
    if end:
        file.seek(end - 1)
        if file.read(1) != b"\n":
            # Its last writer died in the middle of a line.
            file.write(b"\n")
    return file


def _write(file: BinaryIO, line: bytes) -> None:
    while line:
        line = line[file.write(line) :]
