"""Read the first bytes of a file in pieces. Holes of a sparse file are not read from the disk."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator

_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
# A smaller file is read whole: its holes cost little.
_MIN_SPARSE_BYTES = 16 * 1024 * 1024
# Holes are believed where a file has not changed for so long. OpenZFS before 2.2.2 reports data as a hole, and counts
# no blocks for it, until the data is on the disk, by default after 5 s (https://github.com/openzfs/zfs/issues/15526).
SETTLED_NS = 60_000_000_000
_BLOCK_BYTES = 512


def open_file(path: bytes) -> int:
    """Open a file and return its descriptor. It neither follows a link nor waits for a pipe. Raises OSError."""
    return os.open(path, _OPEN_FLAGS)


def pieces(
    descriptor: int, size: int, buffer: memoryview, clock: Callable[[], int] = time.time_ns
) -> Iterator[memoryview]:
    """Yield the first `size` bytes of a file, each piece in `buffer` until the next is asked for.

    A file that is shorter yields fewer bytes. Only of a file that has not changed for `SETTLED_NS` are holes left out
    of the reading. `clock` returns epoch nanoseconds. Raises OSError.
    """
    zeros = memoryview(b"")
    for begin, end, is_data in _extents(descriptor, size, clock()):
        if not is_data and not zeros:
            zeros = memoryview(bytes(len(buffer)))
        at = begin
        while at < end:
            count = min(len(buffer), end - at)
            if is_data:
                count = os.preadv(descriptor, [buffer[:count]], at)
                if not count:
                    return
            yield (buffer if is_data else zeros)[:count]
            at += count


def _extents(descriptor: int, size: int, now_ns: int) -> Iterator[tuple[int, int, bool]]:
    """Yield begin and end of each part of the file, and whether it is data; otherwise it is a hole, which is zeros."""
    status = os.fstat(descriptor)
    is_settled = max(status.st_mtime_ns, status.st_ctime_ns) < now_ns - SETTLED_NS
    if not is_settled or size < _MIN_SPARSE_BYTES or status.st_blocks * _BLOCK_BYTES > size // 2:
        yield 0, size, True
        return
    # The system sees no hole behind the file's end: what was cut off meanwhile must not become zeros.
    size = min(size, status.st_size)
    at = 0
    while at < size:
        try:
            begin = min(os.lseek(descriptor, at, os.SEEK_DATA), size)
        except OSError as error:
            if error.errno != errno.ENXIO:  # this file system does not tell
                yield at, size, True
                return
            begin = size  # no data follows
        if at < begin:
            yield at, begin, False
        if begin == size:
            return
        at = min(os.lseek(descriptor, begin, os.SEEK_HOLE), size)
        yield begin, at, True
