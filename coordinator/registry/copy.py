"""Copy a child or an index to another repository with everything it refers to, bytes unchanged."""

from __future__ import annotations

import asyncio

from coordinator.domain.causes import Cause
from coordinator.domain.image.descriptors import Descriptor, Manifest, malformed, read_descriptor, read_json
from coordinator.domain.image.index import parse_index
from coordinator.errors import ArchloomError, RegistryError
from coordinator.registry.client import Registry

_MAX_DEPTH = 4
_PARALLEL_BLOBS = 3


async def copy_image(
    source: Registry, source_repository: str, digest: str, into: Registry, repository: str
) -> Descriptor:
    """Copy the manifest or index `digest` and all below it to `repository`, by digest, children first.

    A blob is mounted where both repositories are in one registry that allows it, else streamed. Blobs that exist in
    `repository` are skipped, so that an interrupted copy continues where it stopped. Raises RegistryError.
    """
    return await _Copy(source, source_repository, into, repository).image(digest, depth=0)


async def copy_blob(
    source: Registry, source_repository: str, blob: Descriptor, into: Registry, repository: str
) -> None:
    """Copy a blob to `repository` where it is missing: mount it, else stream it. Raises RegistryError."""
    if await into.blob_exists(repository, blob.digest):
        return
    if source.name == into.name and await into.mount_blob(repository, blob.digest, source_repository):
        return
    await into.upload_blob(
        repository, blob.digest, blob.size, lambda: source.stream_blob(source_repository, blob.digest)
    )


class _Copy:
    def __init__(self, source: Registry, source_repository: str, into: Registry, repository: str) -> None:
        self._source = source
        self._source_repository = source_repository
        self._into = into
        self._repository = repository
        self._gate = asyncio.Semaphore(_PARALLEL_BLOBS)

    async def image(self, digest: str, *, depth: int) -> Descriptor:
        if depth > _MAX_DEPTH:
            raise RegistryError(f"{digest} is nested more than {_MAX_DEPTH} indexes deep", code=Cause.MALFORMED)
        manifest = await self._source.get_manifest(self._source_repository, digest)
        if manifest.is_index:
            for entry in parse_index(manifest.raw, digest):
                await self.image(entry.digest, depth=depth + 1)
        else:
            await self._blobs(manifest)
        await self._into.put_manifest(self._repository, digest, manifest.raw, manifest.media_type)
        return manifest.descriptor

    async def _blobs(self, manifest: Manifest) -> None:
        blobs = {blob.digest: blob for blob in _needed(manifest)}
        try:
            async with asyncio.TaskGroup() as group:
                for blob in blobs.values():
                    group.create_task(self._blob(blob))
        except* ArchloomError as failures:
            # Report the first failure only: the others follow from it or repeat it.
            raise failures.exceptions[0] from failures

    async def _blob(self, blob: Descriptor) -> None:
        async with self._gate:
            await copy_blob(self._source, self._source_repository, blob, self._into, self._repository)


def _needed(manifest: Manifest) -> list[Descriptor]:
    """Return config and layers, without foreign layers, which clients fetch from their `urls`."""
    document = read_json(manifest.raw, manifest.digest)
    layers = document.get("layers")
    if not isinstance(layers, list):
        raise malformed(manifest.digest, "its layers are not a list")
    blobs = [read_descriptor(entry, manifest.digest) for entry in (document.get("config"), *layers)]
    return [blob for blob in blobs if not blob.extra.get("urls")]
