"""A scanned context as offered to hosts: objects by digest, each read when a host asks for it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Generator

from coordinator.context.tree import ContextManifest, changed, is_unchanged, open_unchanged
from coordinator.domain.inputs.build_id import EntryKind
from coordinator.domain.inputs.merkle_tree import context_objects

PIECE = 262144


class ContextOffer:
    """The offer of one context, created once per run by `offer` and shared by all hosts.

    `root` is the digest of the context's root folder; `entries` and `files` are counts, `size` is bytes of all files.
    """

    def __init__(self, manifest: ContextManifest) -> None:
        files = [entry for entry in manifest.entries if entry.kind is EntryKind.FILE]
        self._place = manifest.root
        self._objects = context_objects(manifest.entries)
        self._files = {entry.digest: entry for entry in files}
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

        Raises UsageError `context_changed` where the file has changed since the scan, at the latest after its last
        piece; KeyError for a digest that the context does not have.
        """
        entry = self._files[digest]
        sha256 = hashlib.sha256()
        remaining = entry.size
        with os.fdopen(open_unchanged(self._place, entry), "rb", buffering=0) as file:
            while remaining:
                piece = file.read(min(PIECE, remaining))
                if not piece:
                    raise changed(entry.path)
                remaining -= len(piece)
                sha256.update(piece)
                yield piece
            if not is_unchanged(file.fileno(), entry) or sha256.hexdigest() != digest:
                raise changed(entry.path)


async def offer(manifest: ContextManifest) -> ContextOffer:
    """Return the offer of this context, created in a thread: about 1 s for 100 000 entries."""
    return await asyncio.to_thread(ContextOffer, manifest)
