"""A scanned context as offered to hosts: objects by digest, each read when a host asks for it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Generator
from io import FileIO

from coordinator.context.disk_tree import DiskTree
from coordinator.context.file_content import open_file, pieces
from coordinator.context.read_errors import changed, unreadable
from coordinator.context.tree import ContextManifest
from coordinator.domain.inputs.build_id import ContextEntry, EntryKind
from coordinator.domain.inputs.merkle_tree import context_objects

PIECE = 262144
# What one request may hold, files and folder objects together. More is quicker where only what a host lacks is sent.
_ENCLOSED_BYTES = 65536
_READ, _READ_AND_ENTER = 0o400, 0o500


class ContextOffer:
    """The offer of one context, created once per run by `offer` and shared by all hosts.

    `root` is the digest of the context's root folder; `entries` and `files` are counts, `size` is bytes of all files.
    """

    def __init__(self, manifest: ContextManifest) -> None:
        files = [entry for entry in manifest.entries if entry.kind is EntryKind.FILE]
        self._tree = DiskTree(manifest.root)
        self._objects = context_objects(manifest.entries)
        self._files = {entry.digest: entry for entry in files}
        self._entries = manifest.entries
        self.root = self._objects.root
        self.entries = len(manifest.entries)
        self.files = len(files)
        self.size = manifest.size

    def folder(self, digest: str) -> bytes | None:
        """Return the folder object with this digest, `None` where the context has none."""
        return self._objects.folders.get(digest)

    def file_size(self, digest: str) -> int | None:
        """Return the size in bytes of a file with this digest, `None` where the context has none."""
        entry = self._files.get(digest)
        return None if entry is None else entry.size

    def content(self, digest: str) -> Generator[bytes]:
        """Yield the content of a file in pieces of 256 KiB, each read on demand. It blocks, so call it in a thread.

        Only the bytes of the scan are read: a file may have grown since. Raises UsageError `context_changed` where they
        have changed, at the latest after the last piece; KeyError for a digest that the context does not have.
        """
        entry = self._files[digest]
        if not entry.size:
            return
        sha256 = hashlib.sha256()
        with self._opened(entry.path) as file:
            try:
                for piece in pieces(file.fileno(), entry.size, memoryview(bytearray(min(PIECE, entry.size)))):
                    sha256.update(piece)
                    yield bytes(piece)
            except OSError as error:
                raise unreadable(entry.path, error) from error
        if sha256.hexdigest() != digest:
            raise changed(entry.path)

    def enclosed(self) -> dict[str, bytes] | None:
        """Return every object by digest, where one request can hold them; it blocks, and raises as `content` does.

        None for a larger context, and for one with entries that a mode closes to their owner: how a host builds with
        these is found out by a process of its own.
        """
        folders = self._objects.folders
        if self.size + sum(map(len, folders.values())) > _ENCLOSED_BYTES or any(map(is_closed, self._entries)):
            return None
        return {**folders, **{digest: b"".join(self.content(digest)) for digest in self._files}}

    def _opened(self, path: str) -> FileIO:
        try:
            descriptor = open_file(self._tree.on_disk(path))
        except PermissionError as error:
            raise unreadable(path, error) from error
        except OSError as error:
            raise changed(path) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise changed(path)
        return FileIO(descriptor)


def is_closed(entry: ContextEntry) -> bool:
    """Whether the mode keeps the owner from opening the entry, as `is_closed` of the agent's `unreadable` decides."""
    if entry.kind is EntryKind.SYMLINK:
        return False
    needed = _READ_AND_ENTER if entry.kind is EntryKind.DIRECTORY else _READ
    return entry.mode & needed != needed


async def offer(manifest: ContextManifest) -> ContextOffer:
    """Return the offer of this context, created in a thread: about 1 s for 100 000 entries."""
    return await asyncio.to_thread(ContextOffer, manifest)


class LazyOffer:
    """The offer of a context, created at the first `get`: a build that is reused needs none."""

    def __init__(self, manifest: ContextManifest) -> None:
        self._manifest = manifest
        self._offer: ContextOffer | None = None
        self._lock = asyncio.Lock()

    async def get(self) -> ContextOffer:
        """Return the offer, the same one for all hosts."""
        async with self._lock:
            if self._offer is None:
                self._offer = await offer(self._manifest)
            return self._offer
