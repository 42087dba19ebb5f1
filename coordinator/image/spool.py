"""Blobs on their way, on disk instead of in memory: a file without a name, gone with whoever holds it."""

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

from coordinator.errors import LostError

T = TypeVar("T")

# The same bytes give the same blob, whenever and wherever: no name, no time, always this effort (zlib's default).
_LEVEL = 6
_GZIP_WINDOW = 31
_BATCH = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Spool:
    """One blob: `content` is the digest of what came, `digest` and `size` are of what is kept, gzipped or as it came.

    Used inside `with`. Raises LostError `spool` where this machine's disk is full.
    """

    def __init__(self, folder: Path, *, compress: bool) -> None:
        self._folder = folder
        with _room(folder):
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - held
        self._squeeze = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_WINDOW) if compress else None
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
        """All of these, to their end."""
        async for batch in batches(chunks):
            await _aside(partial(self._put, batch))
        if self._squeeze is not None:
            await _aside(partial(self._keep, self._squeeze.flush()))

    async def read(self) -> AsyncGenerator[bytes]:
        """What is kept, from its beginning."""
        position = 0
        while position < self.size:
            data = await _aside(partial(os.pread, self._file.fileno(), _BATCH, position))
            position += len(data)
            yield data

    def _put(self, data: bytes) -> None:
        self._came.update(data)
        self._keep(data if self._squeeze is None else self._squeeze.compress(data))

    def _keep(self, data: bytes) -> None:
        self._kept.update(data)
        self.size += len(data)
        with _room(self._folder):
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]


async def batches(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The same bytes in pieces of about 1 MiB: each costs a switch to a thread and back."""
    waiting = bytearray()
    async for chunk in chunks:
        waiting += chunk
        if len(waiting) >= _BATCH:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


async def _aside(work: Callable[[], T]) -> T:
    step = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(step)
    except asyncio.CancelledError:
        # The thread uses what its caller is about to close.
        await asyncio.wait([step])
        raise


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        raise LostError(
            f"no space left below {folder} on this machine for a layer on its way: {free // 1024**2} MiB free",
            hint="make room there, or let XDG_STATE_HOME name a folder on a larger disk",
            code="spool",
        ) from error
