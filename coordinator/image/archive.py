"""An image's archive read as a stream: its layers go to a registry as they pass, its documents are kept to the end.

Two layouts. docker-archive (Docker before 25, skopeo): layers as bare tars, `manifest.json` names them and the config.
OCI layout (Docker 25 and newer, containerd): `blobs/sha256/<digest>`, `index.json` leads to them; layers may be bare
tars there too. Either way what a blob is for is known only at the end, so layers are told by how they begin.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.domain.image.descriptors import LARGEST_MANIFEST, Descriptor, malformed, sha256
from coordinator.errors import RegistryError
from coordinator.image.image_destination import ImageDestination
from coordinator.image.spool import Spool
from coordinator.image.tar import BLOCK, Kind, Member, Tar

BLOBS = "blobs/sha256/"
INDEX, MANIFEST = "index.json", "manifest.json"
_BLOB = re.compile(rf"{BLOBS}([0-9a-f]{{64}})\Z")
_CONFIG = re.compile(r"[0-9a-f]{64}\.json\Z")
_LAYER = re.compile(r"(?:.*/)?[^/]+\.tar\Z")
_DOCUMENTS = 16 * LARGEST_MANIFEST
_MOST_MEMBERS = 20_000
_MAGIC = slice(257, 262)


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that came as a bare tar, and its gzipped blob in the registry."""

    diff_id: str
    blob: Descriptor


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive had, by the names in it. `blobs` are digests the registry has now, of bytes as they came."""

    what: str
    documents: dict[str, bytes] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    blobs: set[str] = field(default_factory=set)


async def read_archive(chunks: AsyncIterator[bytes], sink: ImageDestination, folder: Path, what: str) -> Contents:
    """The whole archive: every layer and blob of it is in `sink`, verified, before this returns.

    `folder` holds one layer at a time; memory holds the documents, 64 MiB at most. Raises LostError (`cut`, `spool`),
    RegistryError (`malformed`, `mismatch`, or the registry's).
    """
    reader = _Reader(Tar(chunks, what), sink, folder, Contents(what))
    return await reader.read()


class _Reader:
    def __init__(self, tar: Tar, sink: ImageDestination, folder: Path, contents: Contents) -> None:
        self._tar = tar
        self._sink = sink
        self._folder = folder
        self._contents = contents
        self._what = contents.what
        self._seen: set[str] = set()
        self._documents = 0

    async def read(self) -> Contents:
        while (member := await self._tar.next()) is not None:
            if member.kind is Kind.FOLDER:
                continue
            # Readers differ on which of two counts.
            if member.name in self._seen:
                raise malformed(self._what, f"it has {member.name} twice")
            self._seen.add(member.name)
            if len(self._seen) > _MOST_MEMBERS:
                raise malformed(self._what, f"it has more than {_MOST_MEMBERS} members")
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
        if start.startswith(b"{") and member.size <= LARGEST_MANIFEST:
            self._same(sha256(await self._document(member)), digest)
        elif _is_tar(start):
            self._contents.layers[member.name] = await self._layer(digest)
        else:
            if not await self._sink.has(digest):
                with Spool(self._folder, compress=False) as spool:
                    await spool.fill(self._tar.content())
                    self._same(spool.content, digest)
                    await self._sink.put(digest, spool.size, spool.read)
            self._contents.blobs.add(digest)

    async def _document(self, member: Member) -> bytes:
        self._documents += member.size
        if self._documents > _DOCUMENTS:
            raise malformed(self._what, f"it has more than {_DOCUMENTS >> 20} MiB of documents")
        data = await self._tar.whole(member, LARGEST_MANIFEST)
        self._contents.documents[member.name] = data
        return data

    async def _layer(self, promised: str) -> Layer:
        """The layer that is next in the archive; where its name promised which it is, one that is known is skipped."""
        known = await self._sink.layer(promised) if promised else None
        if known is not None:
            return Layer(promised, known)
        with Spool(self._folder, compress=True) as spool:
            await spool.fill(self._tar.content())
            diff_id = spool.content
            if promised:
                self._same(diff_id, promised)
            else:
                known = await self._sink.layer(diff_id)
            if known is None:
                known = Descriptor(media_type="", digest=spool.digest, size=spool.size)
                if not await self._sink.has(known.digest):
                    await self._sink.put(known.digest, known.size, spool.read)
                self._sink.remember(diff_id, known)
        return Layer(diff_id, known)

    def _same(self, found: str, promised: str) -> None:
        if found != promised:
            raise RegistryError(f"{self._what} has {found} where it says {promised}", code="mismatch")


def _is_tar(start: bytes) -> bool:
    # A layer that changes nothing is an archive's end alone.
    return start[_MAGIC] == b"ustar" or (len(start) == BLOCK and not any(start))
