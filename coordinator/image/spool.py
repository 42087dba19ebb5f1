"""Blobs spooled to disk instead of memory, in an unnamed file that the kernel removes when it is closed."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import tempfile
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Self, TypeVar

from coordinator.domain.full_disk import room_hint, too_little_space
from coordinator.errors import LostError

T = TypeVar("T")

# The same bytes must give the same blob: the gzip header has no name and no time, the level is zlib's default.
_GZIP_LEVEL = 6
_GZIP_WBITS = 31
_BATCH_BYTES = 1 << 20
_DISK_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})


class Spool:
    """One blob. `content` is the digest of the bytes received; `digest` and `size` are of the bytes stored.

    The bytes are stored gzipped where `compress` is true, else unchanged. Use it inside `with`.
    Raises LostError `spool` where the coordinator's disk is full.
    """

    def __init__(self, folder: Path, *, compress: bool) -> None:
        self._folder = folder
        with _translated(folder):
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - held
        self._squeeze = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WBITS) if compress else None
        self._came = hashlib.sha256()
        self._kept = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def content(self) -> str:
        return f"sha256:{self._came.hexdigest()}"

    @property
    def digest(self) -> str:
        return f"sha256:{self._kept.hexdigest()}"

    async def fill(self, chunks: AsyncIterator[bytes]) -> None:
        """Store all chunks."""
        async for batch in batches(chunks):
            await _in_thread(partial(self._put, batch))
        if self._squeeze is not None:
            await _in_thread(partial(self._keep, self._squeeze.flush()))

    async def read(self) -> AsyncGenerator[bytes]:
        """Yield the stored bytes from the beginning, in pieces of at most 1 MiB."""
        position = 0
        while position < self.size:
            data = await _in_thread(partial(os.pread, self._file.fileno(), _BATCH_BYTES, position))
            position += len(data)
            yield data

    def _put(self, data: bytes) -> None:
        self._came.update(data)
        self._keep(data if self._squeeze is None else self._squeeze.compress(data))

    def _keep(self, data: bytes) -> None:
        self._kept.update(data)
        self.size += len(data)
        with _translated(self._folder):
            unwritten = memoryview(data)
            while unwritten:
                unwritten = unwritten[self._file.write(unwritten) :]


async def batches(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Yield the same bytes in pieces of at least 1 MiB, but for the last: each costs a switch to a thread and back."""
    batch = bytearray()
    async for chunk in chunks:
        batch += chunk
        if len(batch) >= _BATCH_BYTES:
            yield bytes(batch)
            batch.clear()
    if batch:
        yield bytes(batch)


async def _in_thread(work: Callable[[], T]) -> T:
    future = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        # Wait for the thread: it uses the file that the caller is about to close.
        await asyncio.wait([future])
        raise


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL_ERRNOS:
            raise
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        raise LostError(
            f"{too_little_space(f'{folder} on this machine', free, error.strerror or '')}, for a layer in transfer",
            hint=f"{room_hint(folder)}; or set XDG_STATE_HOME to a folder on a larger disk",
            code="spool",
        ) from error
