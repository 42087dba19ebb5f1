"""Read an image archive as a stream: layers go to a registry as they arrive, documents are kept in memory.

Two layouts. docker-archive (Docker before 25, skopeo): layers are bare tars; `manifest.json` names them and the config.
OCI layout (Docker 25 and newer, containerd): blobs are `blobs/sha256/<digest>`, and `index.json` refers to them; layers
may be bare tars too. In both, the role of a blob is known only at the end, so a layer is recognised by its first bytes.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.domain.causes import Cause
from coordinator.domain.image.descriptors import MAX_MANIFEST_BYTES, Descriptor, malformed, sha256
from coordinator.errors import RegistryError
from coordinator.image.image_destination import ImageDestination
from coordinator.image.spool import Spool
from coordinator.image.tar import BLOCK, Kind, Member, Tar

BLOBS = "blobs/sha256/"
INDEX, MANIFEST = "index.json", "manifest.json"
_BLOB = re.compile(rf"{BLOBS}([0-9a-f]{{64}})\Z")
_CONFIG = re.compile(r"[0-9a-f]{64}\.json\Z")
_LAYER = re.compile(r"(?:.*/)?[^/]+\.tar\Z")
_MAX_DOCUMENTS_BYTES = 16 * MAX_MANIFEST_BYTES
_MAX_MEMBERS = 20_000
_TAR_MAGIC = slice(257, 262)


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that is a bare tar in the archive, and its gzipped blob in the registry."""

    diff_id: str
    blob: Descriptor


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of an archive by member name. `blobs` are the digests of blobs in the registry, bytes unchanged.

    `what` names the archive in messages.
    """

    what: str
    documents: dict[str, bytes] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    blobs: set[str] = field(default_factory=set)


async def read_archive(
    chunks: AsyncIterator[bytes], destination: ImageDestination, folder: Path, what: str
) -> Contents:
    """Read the whole archive. Every layer and blob of it is in `destination`, verified, before this returns.

    `folder` holds one layer at a time; memory holds the documents, 64 MiB at most. Raises LostError (`cut`, `spool`),
    RegistryError (`malformed`, `mismatch`, or the registry's).
    """
    reader = _Reader(Tar(chunks, what), destination, folder, Contents(what))
    return await reader.read()


class _Reader:
    def __init__(self, tar: Tar, destination: ImageDestination, folder: Path, contents: Contents) -> None:
        self._tar = tar
        self._destination = destination
        self._folder = folder
        self._contents = contents
        self._what = contents.what
        self._seen: set[str] = set()
        self._documents = 0

    async def read(self) -> Contents:
        while (member := await self._tar.next()) is not None:
            if member.kind is Kind.FOLDER:
                continue
            # Readers of tar differ on which of two members with the same name counts.
            if member.name in self._seen:
                raise malformed(self._what, f"it has {member.name} twice")
            self._seen.add(member.name)
            if len(self._seen) > _MAX_MEMBERS:
                raise malformed(self._what, f"it has more than {_MAX_MEMBERS} members")
            if member.kind is Kind.LINK:
                self._contents.links[member.name] = member.target
            else:
                await self._file(member)
        return self._contents

    async def _file(self, member: Member) -> None:
        blob = _BLOB.match(member.name)
        if blob is not None:
            await self._blob(member, f"sha256:{blob[1]}")
        elif member.name in {INDEX, MANIFEST} or _CONFIG.match(member.name):
            await self._document(member)
        elif _LAYER.match(member.name):
            self._contents.layers[member.name] = await self._layer("")

    async def _blob(self, member: Member, digest: str) -> None:
        start = await self._tar.peek(BLOCK)
        if start.startswith(b"{") and member.size <= MAX_MANIFEST_BYTES:
            self._check_digest(sha256(await self._document(member)), digest)
        elif _is_tar(start):
            self._contents.layers[member.name] = await self._layer(digest)
        else:
            if not await self._destination.has(digest):
                with Spool(self._folder, compress=False) as spool:
                    await spool.fill(self._tar.content())
                    self._check_digest(spool.content, digest)
                    await self._destination.put(digest, spool.size, spool.read)
            self._contents.blobs.add(digest)

    async def _document(self, member: Member) -> bytes:
        self._documents += member.size
        if self._documents > _MAX_DOCUMENTS_BYTES:
            raise malformed(self._what, f"it has more than {_MAX_DOCUMENTS_BYTES >> 20} MiB of documents")
        data = await self._tar.whole(member, MAX_MANIFEST_BYTES)
        self._contents.documents[member.name] = data
        return data

    async def _layer(self, expected: str) -> Layer:
        """Read the current member as a layer; skip it where its name gives its digest and the destination has it."""
        known = await self._destination.layer(expected) if expected else None
        if known is not None:
            return Layer(expected, known)
        with Spool(self._folder, compress=True) as spool:
            await spool.fill(self._tar.content())
            diff_id = spool.content
            if expected:
                self._check_digest(diff_id, expected)
            else:
                known = await self._destination.layer(diff_id)
            if known is None:
                known = Descriptor(media_type="", digest=spool.digest, size=spool.size)
                if not await self._destination.has(known.digest):
                    await self._destination.put(known.digest, known.size, spool.read)
                self._destination.remember(diff_id, known)
        return Layer(diff_id, known)

    def _check_digest(self, digest: str, expected: str) -> None:
        if digest != expected:
            raise RegistryError(f"{self._what} has the digest {digest}, expected {expected}", code=Cause.MISMATCH)


def _is_tar(start: bytes) -> bool:
    # An empty layer consists only of the zero blocks at a tar's end.
    return start[_TAR_MAGIC] == b"ustar" or (len(start) == BLOCK and not any(start))
