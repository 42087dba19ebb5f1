"""Where the logs of a run are kept on this machine: a folder per run, a file per attempt."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from os import SEEK_END
from pathlib import Path
from typing import BinaryIO

from coordinator.domain.image.platforms import Platform
from coordinator.domain.run.events import Emit, Notice
from coordinator.store.folders import private_folder

# Of a build that prints for ever, enough to see how it began and what it said last.
MOST_BYTES, LAST_BYTES = 32 * 2**20, 2**20
_LONG = b"\n[archloom: this log is long; what comes now is kept in part, and written when the build ends]\n"


def state_folder(environ: Mapping[str, str], home: Path) -> Path:
    """`$XDG_STATE_HOME/archloom`, by default `~/.local/state/archloom`."""
    base = environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else home / ".local" / "state") / "archloom"


def store_path(state: Path) -> Path:
    return state / "archloom.db"


def runs_folder(state: Path) -> Path:
    return state / "runs"


def log_folder(state: Path, run_id: str) -> Path:
    """What is kept of one run: the logs of its attempts, its record, what it was built from."""
    return runs_folder(state) / run_id


def log_path(state: Path, run_id: str, platform: Platform, attempt: int) -> Path:
    """The log of one attempt, as its host told it."""
    return log_folder(state, run_id) / f"{platform.slug}-{attempt}.log"


@contextlib.contextmanager
def kept_log(
    path: Path, emit: Emit, most_bytes: int = MOST_BYTES, last_bytes: int = LAST_BYTES
) -> Iterator[Callable[[str], None]]:
    """Keeps a log as it comes: the first `most_bytes`, and of what follows the last `last_bytes` when it ends.

    A log that is told once more from its beginning, for a run that is resumed, is kept on where it stopped. A disk that
    takes no more costs the rest of the log, not the build.
    """
    with contextlib.ExitStack() as stack:
        log: _Log | None = None
        try:
            private_folder(path.parent)
            # Without a buffer: it is there for whoever follows, and a full disk is not tried once more at the end.
            path.touch()
            log = _Log(stack.enter_context(path.open("r+b", buffering=0)), most_bytes, last_bytes)
        except OSError as error:
            emit(Notice(f"the log is not kept: {path}: {error.strerror}"))

        def attempt(write: Callable[[_Log], None]) -> None:
            nonlocal log
            if log is not None:
                try:
                    write(log)
                except OSError as error:
                    log = None
                    emit(Notice(f"the rest of the log is not kept: {path}: {error.strerror}"))

        try:
            yield lambda text: attempt(lambda log: log.keep(text.encode("utf-8", "replace")))
        finally:
            attempt(_Log.end)


class _Log:
    """Its beginning in the file, its end in memory until there is no more."""

    def __init__(self, file: BinaryIO, most_bytes: int, last_bytes: int) -> None:
        self._file = file
        # What is there is what comes first now: of what was beyond, nobody knows where it stood.
        self._known = file.seek(0, SEEK_END)
        if self._known > most_bytes:
            self._known = file.truncate(most_bytes)
            file.seek(most_bytes)
        self._room = most_bytes - self._known
        self._last_bytes = last_bytes
        self._last: deque[bytes] = deque()
        self._held = 0
        self._left_out = 0

    def keep(self, data: bytes) -> None:
        known, data = data[: self._known], data[self._known :]
        self._known -= len(known)
        begins, rest = data[: self._room], data[self._room :]
        self._write(begins)
        self._room -= len(begins)
        if not rest:
            return
        if not self._held:
            self._write(_LONG)
        self._last.append(rest)
        self._held += len(rest)
        while self._held - len(self._last[0]) >= self._last_bytes:
            self._held -= len(self._last[0])
            self._left_out += len(self._last.popleft())

    def end(self) -> None:
        if self._left_out:
            self._write(f"[archloom: {self._left_out} bytes are not kept]\n".encode())
        self._write(b"".join(self._last))
        self._last.clear()

    def _write(self, data: bytes) -> None:
        while data:
            data = data[self._file.write(data) :]
