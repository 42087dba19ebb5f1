"""A context as a PAX tar stream, exactly as its manifest says, with a few MiB of memory whatever its size."""

from __future__ import annotations

import asyncio
import os
import tarfile
from collections.abc import AsyncGenerator, Generator
from decimal import Decimal
from pathlib import Path

from coordinator.context.tree import BUFFER, ContextManifest, changed, is_unchanged, open_unchanged
from coordinator.domain.build_id import ContextEntry, EntryKind

_TYPES = {
    EntryKind.FILE: tarfile.REGTYPE,
    EntryKind.DIRECTORY: tarfile.DIRTYPE,
    EntryKind.SYMLINK: tarfile.SYMTYPE,
}


async def stream(manifest: ContextManifest) -> AsyncGenerator[bytes]:
    """The archive in chunks of about 1 MiB: entries in the manifest's order, owned by root, with their own times.

    Files are read in a thread, as the consumer asks for more. Raises UsageError for a file that is not as the
    manifest says any more; what was yielded before then is no whole archive.
    """
    chunks = _chunks(manifest)
    try:
        while (chunk := await _next(chunks)) is not None:
            yield chunk
    finally:
        chunks.close()


async def _next(chunks: Generator[bytes]) -> bytes | None:
    step = asyncio.ensure_future(asyncio.to_thread(next, chunks, None))
    try:
        return await asyncio.shield(step)
    except asyncio.CancelledError:
        # The thread is inside the generator, which cannot be closed before it has come out.
        await asyncio.wait([step])
        raise


def _chunks(manifest: ContextManifest) -> Generator[bytes]:
    waiting = bytearray()
    for piece in _pieces(manifest):
        waiting += piece
        if len(waiting) >= BUFFER:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting + bytes(2 * tarfile.BLOCKSIZE))


def _pieces(manifest: ContextManifest) -> Generator[bytes]:
    for entry in manifest.entries:
        yield _header(entry)
        if entry.kind is EntryKind.FILE:
            yield from _content(manifest.root, entry)
            yield bytes(-entry.size % tarfile.BLOCKSIZE)


def _header(entry: ContextEntry) -> bytes:
    info = tarfile.TarInfo(entry.path)
    info.type, info.mode, info.size, info.linkname = _TYPES[entry.kind], entry.mode, entry.size, entry.link
    # As text: a float could not hold the nanoseconds.
    info.pax_headers = {"mtime": f"{Decimal(entry.mtime_ns).scaleb(-9):f}"}
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _content(root: Path, entry: ContextEntry) -> Generator[bytes]:
    left = entry.size
    with os.fdopen(open_unchanged(root, entry), "rb", buffering=0) as file:
        while left:
            piece = file.read(min(BUFFER, left))
            if not piece:
                raise changed(entry.path)
            left -= len(piece)
            yield piece
        if not is_unchanged(file.fileno(), entry):
            raise changed(entry.path)
