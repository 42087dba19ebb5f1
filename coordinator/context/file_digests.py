"""Digests of the files of contexts: each file is read once per run, and not at all where an earlier run has read it."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from coordinator.context.digest_cache import DigestCache
from coordinator.context.file_content import open_file, pieces
from coordinator.context.read_errors import changed, unreadable

BUFFER = 1024 * 1024
_TRIES = 3
# A file that changed less than this before it was read may change again without another time: FAT counts 2 s, ext4 a
# tick of the kernel's clock. git calls such an entry racy (Documentation/technical/racy-git.txt).
_RACY_NS = 2_000_000_000


class FileReading(NamedTuple):
    """A file as it was read: its status before the first byte, and the digest of its first `st_size` bytes."""

    status: os.stat_result
    digest: str


class FileDigests:
    """The digests of one run, and the cache of earlier runs at `path`; None for no cache.

    Within a run a file keeps the status and digest of its first reading, so that platforms that take the same file have
    the same content. Methods may be called from several threads. `clock` returns epoch nanoseconds.
    """

    def __init__(self, path: Path | None = None, clock: Callable[[], int] = time.time_ns) -> None:
        self._cache = DigestCache(path)
        self._clock = clock
        self._readings: dict[bytes | tuple[int, int], FileReading] = {}
        self._buffer = memoryview(bytearray(BUFFER))
        self._lock = threading.Lock()

    def read(
        self, path: bytes, status: os.stat_result, shown: str, proceed: Callable[[int], None]
    ) -> FileReading | None:
        """Return the reading of a regular file at the absolute `path`; None where it is gone.

        `status` is from `lstat`, `shown` is the path for messages. `proceed` is called with the number of bytes of each
        piece; it may raise to end the reading. A file that grows in two readings is as it was when the second began:
        its bytes of the first are then the same. Raises UsageError where the file cannot be read, or changes otherwise
        in three readings.
        """
        # All names of a file have the same content, and the same reading of it.
        key = (status.st_dev, status.st_ino) if status.st_nlink > 1 else path
        with self._lock:
            reading = self._readings.get(key)
            if reading is None:
                reading = self._cached(path, status)
                if reading is not None:
                    proceed(status.st_size)
                else:
                    reading = self._hashed(path, shown, proceed)
                if reading is not None:
                    self._readings[key] = reading
            return reading

    def save(self) -> None:
        """Write new digests to the cache, for later runs."""
        self._cache.save()

    def close(self) -> None:
        """Close the cache's file."""
        self._cache.close()

    def _cached(self, path: bytes, status: os.stat_result) -> FileReading | None:
        folder, _, name = path.rpartition(b"/")
        digest = self._cache.get(folder, name, _stamp(status))
        return None if digest is None else FileReading(status, digest)

    def _hashed(self, path: bytes, shown: str, proceed: Callable[[int], None]) -> FileReading | None:
        # What was written behind the end; another content of a greater size looks the same until it is read once more.
        grown: FileReading | None = None
        for _ in range(_TRIES):
            begun = self._clock()
            try:
                descriptor = open_file(path)
            except PermissionError as error:
                raise unreadable(shown, error) from error
            except (FileNotFoundError, NotADirectoryError):
                return None
            except OSError as error:
                raise changed(shown) from error
            try:
                reading, after, is_same = self._read(descriptor, grown, shown, proceed)
            finally:
                os.close(descriptor)
            if reading is None:
                continue
            if after.st_size > reading.status.st_size and not is_same:
                grown = reading
                continue
            newest = max(after.st_mtime_ns, after.st_ctime_ns)
            if _stamp(after) == _stamp(reading.status) and newest < begun - _RACY_NS:
                folder, _, name = path.rpartition(b"/")
                self._cache.put(folder, name, _stamp(after), reading.digest)
            return reading
        raise changed(shown)

    def _read(
        self, descriptor: int, grown: FileReading | None, shown: str, proceed: Callable[[int], None]
    ) -> tuple[FileReading | None, os.stat_result, bool]:
        """Return the reading, None where it cannot be of one content, and the status after it.

        The third value tells whether the content begins with that of the reading `grown`.
        """
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise changed(shown)
        sha256 = hashlib.sha256()
        count = 0
        begins_with = ""
        mark = grown.status.st_size if grown else -1
        try:
            for piece in pieces(descriptor, before.st_size, self._buffer, self._clock):
                proceed(len(piece))
                if count <= mark < count + len(piece):
                    start = sha256.copy()
                    start.update(piece[: mark - count])
                    begins_with = start.hexdigest()
                sha256.update(piece)
                count += len(piece)
        except OSError as error:
            raise unreadable(shown, error) from error
        after = os.fstat(descriptor)
        whole = count == before.st_size and (
            after.st_size > before.st_size
            or (after.st_size, after.st_mtime_ns, after.st_ctime_ns)
            == (before.st_size, before.st_mtime_ns, before.st_ctime_ns)
        )
        digest = sha256.hexdigest()
        is_same = grown is not None and grown.digest == (digest if count == mark else begins_with)
        return (FileReading(before, digest) if whole else None), after, is_same


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
