"""A child or an index taken over into another repository, with everything it needs, its bytes as they are."""

from __future__ import annotations

import asyncio

from coordinator.domain.image.descriptors import Descriptor, Manifest, malformed, read_descriptor, read_json
from coordinator.domain.image.index import parse_index
from coordinator.errors import ArchloomError, RegistryError
from coordinator.registry.client import Registry

_DEEPEST = 4
_AT_ONCE = 3


async def copy_image(
    source: Registry, source_repository: str, digest: str, into: Registry, repository: str
) -> Descriptor:
    """Puts the manifest or index `digest` and all below it into `repository`, by digest, children first.

    Blobs are mounted where both are on one registry and it agrees, and streamed where not. What is there already is
    left alone, so that a copy that broke off goes on. Raises RegistryError.
    """
    return await _Copy(source, source_repository, into, repository).image(digest, depth=0)


async def copy_blob(
    source: Registry, source_repository: str, blob: Descriptor, into: Registry, repository: str
) -> None:
    """The blob is in `repository`: it was there, was mounted, or is streamed over. Raises RegistryError."""
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
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def image(self, digest: str, *, depth: int) -> Descriptor:
        if depth > _DEEPEST:
            raise RegistryError(f"{digest} is nested more than {_DEEPEST} indexes deep", code="malformed")
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
            # One cause is enough: the others follow from it or say the same.
            raise failures.exceptions[0] from failures

    async def _blob(self, blob: Descriptor) -> None:
        async with self._gate:
            await copy_blob(self._source, self._source_repository, blob, self._into, self._repository)


def _needed(manifest: Manifest) -> list[Descriptor]:
    """Config and layers, without those that are fetched from elsewhere (foreign layers)."""
    document = read_json(manifest.raw, manifest.digest)
    layers = document.get("layers")
    if not isinstance(layers, list):
        raise malformed(manifest.digest, "its layers are not a list")
    found = [read_descriptor(entry, manifest.digest) for entry in (document.get("config"), *layers)]
    return [blob for blob in found if not blob.extra.get("urls")]
