"""The logs of a run on the coordinator: one folder per run, one file per attempt."""

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

# The limits of a log: a build that prints without end must not fill the disk, but its start and its end are kept.
MOST_BYTES, LAST_BYTES = 32 * 2**20, 2**20
_TRUNCATION_NOTE = b"\n[archloom: this log is long; only a part of the rest is kept, and written when the build ends]\n"


def state_folder(environ: Mapping[str, str], home: Path) -> Path:
    """Return `$XDG_STATE_HOME/archloom`, by default `~/.local/state/archloom` (XDG Base Directory Specification)."""
    base = environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else home / ".local" / "state") / "archloom"


def store_path(state: Path) -> Path:
    return state / "archloom.db"


def runs_folder(state: Path) -> Path:
    return state / "runs"


def log_folder(state: Path, run_id: str) -> Path:
    """Return the folder of one run: the logs of its attempts, its record, its inputs."""
    return runs_folder(state) / run_id


def log_path(state: Path, run_id: str, platform: Platform, attempt: int) -> Path:
    """Return the path of the log of one attempt, as its host wrote it."""
    return log_folder(state, run_id) / f"{platform.slug}-{attempt}.log"


@contextlib.contextmanager
def kept_log(
    path: Path, emit: Emit, most_bytes: int = MOST_BYTES, last_bytes: int = LAST_BYTES
) -> Iterator[Callable[[str], None]]:
    """Write a log to `path` while it grows; yield the function that appends text to it.

    The file gets the first `most_bytes` at once, and the last `last_bytes` of the remainder when the block ends. When a
    resumed run reads the log again from the start, the bytes that the file already has are skipped. Where the disk is
    full or fails, the remainder of the log is lost, not the build.
    """
    with contextlib.ExitStack() as stack:
        log: _Log | None = None
        try:
            private_folder(path.parent)
            # Unbuffered: readers of the file see each write at once, and close() has nothing to flush to a full disk.
            path.touch()
            log = _Log(stack.enter_context(path.open("r+b", buffering=0)), most_bytes, last_bytes)
        except OSError as error:
            emit(Notice(f"the build log cannot be written: {path}: {error.strerror}"))

        def attempt(write: Callable[[_Log], None]) -> None:
            nonlocal log
            if log is not None:
                try:
                    write(log)
                except OSError as error:
                    log = None
                    emit(Notice(f"the rest of the build log cannot be written: {path}: {error.strerror}"))

        try:
            yield lambda text: attempt(lambda log: log.keep(text.encode("utf-8", "replace")))
        finally:
            attempt(_Log.end)


class _Log:
    """An open log file: its start is written at once, its end is held in memory until the log ends."""

    def __init__(self, file: BinaryIO, most_bytes: int, last_bytes: int) -> None:
        self._file = file
        # The log is fed from its start, and the file has its first bytes. Bytes beyond `most_bytes` are the end of an
        # earlier write, at an unknown offset in the log: drop them.
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
            self._write(_TRUNCATION_NOTE)
        self._last.append(rest)
        self._held += len(rest)
        while self._held - len(self._last[0]) >= self._last_bytes:
            self._held -= len(self._last[0])
            self._left_out += len(self._last.popleft())

    def end(self) -> None:
        if self._left_out:
            self._write(f"[archloom: {self._left_out} bytes were dropped]\n".encode())
        self._write(b"".join(self._last))
        self._last.clear()

    def _write(self, data: bytes) -> None:
        while data:
            data = data[self._file.write(data) :]
