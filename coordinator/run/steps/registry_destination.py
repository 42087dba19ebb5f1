"""The first repository of a target, as the destination of an image that left its host as an archive."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass

from coordinator.domain.image.descriptors import Descriptor, Manifest
from coordinator.domain.image.references import Reference
from coordinator.errors import ArchloomError
from coordinator.image.base import read_base
from coordinator.publish.registry_pool import Registries
from coordinator.registry.client import Registry
from coordinator.registry.copy import copy_blob
from coordinator.run.steps.job_spec import JobBase

_GZIP_LAYERS = frozenset(
    {
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.oci.image.layer.v1.tar+gzip",
    }
)


@dataclass(frozen=True, slots=True)
class _BaseLayer:
    registry: Registry
    repository: str
    blob: Descriptor


class RegistryDestination:
    """The registry implementation of `image.image_destination.ImageDestination`.

    A layer of one of the job's bases is copied as the blob of its own registry, so that the child shares it with the
    base. `known` holds the layers that this process has uploaded before, by repository and diff id.
    """

    def __init__(
        self,
        registries: Registries,
        reference: Reference,
        bases: Sequence[JobBase],
        known: dict[tuple[str, str], Descriptor],
    ) -> None:
        self._registries = registries
        self._reference = reference
        self._bases = bases
        self._known = known
        self._base_layers: Mapping[str, _BaseLayer] | None = None

    async def has(self, digest: str) -> bool:
        return await (await self._registry()).blob_exists(self._reference.repository, digest)

    async def put(self, digest: str, size: int, chunks: Callable[[], AsyncGenerator[bytes]]) -> None:
        await (await self._registry()).upload_blob(self._reference.repository, digest, size, chunks)

    async def put_manifest(self, manifest: Manifest) -> None:
        registry = await self._registry()
        await registry.put_manifest(self._reference.repository, manifest.digest, manifest.raw, manifest.media_type)

    async def layer(self, diff_id: str) -> Descriptor | None:
        if self._base_layers is None:
            self._base_layers = await self._read_bases()
        base = self._base_layers.get(diff_id)
        if base is not None:
            # Where that registry fails now, the layer from the host's archive is uploaded.
            with contextlib.suppress(ArchloomError):
                into = await self._registry()
                await copy_blob(base.registry, base.repository, base.blob, into, self._reference.repository)
                return base.blob
        known = self._known.get(self._key(diff_id))
        return known if known is not None and await self.has(known.digest) else None

    def remember(self, diff_id: str, layer: Descriptor) -> None:
        self._known[self._key(diff_id)] = layer

    def _key(self, diff_id: str) -> tuple[str, str]:
        return f"{self._reference.registry}/{self._reference.repository}", diff_id

    async def _registry(self) -> Registry:
        return await self._registries.registry(self._reference.registry)

    async def _read_bases(self) -> dict[str, _BaseLayer]:
        by_base = await asyncio.gather(*map(self._read_base, self._bases))
        return {diff_id: layer for layers in by_base for diff_id, layer in layers.items()}

    async def _read_base(self, base: JobBase) -> dict[str, _BaseLayer]:
        repository = base.reference.repository
        try:
            registry = await self._registries.registry(base.reference.registry)
            image = await read_base(registry, repository, base.reference.digest)
        except ArchloomError:
            return {}
        return {
            diff_id: _BaseLayer(registry, repository, blob)
            for diff_id, blob in zip(image.diff_ids, image.layers, strict=True)
            if blob.media_type in _GZIP_LAYERS and not blob.extra.get("urls")
        }
