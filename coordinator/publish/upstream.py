"""The registries of the broker: the run's registry clients, addressed by reference."""

from __future__ import annotations

from coordinator.domain.image.descriptors import Manifest
from coordinator.domain.image.references import Reference
from coordinator.publish.registry_pool import Registries
from coordinator.registry.auth import Authorization
from coordinator.registry.endpoint import Endpoint
from coordinator.registry.silence import Silence


class Upstream:
    """The implementation of `broker.request.Upstreams`."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    async def endpoint(self, registry: str) -> Endpoint:
        return (await self._registries.registry(registry)).endpoint

    async def silence(self, registry: str) -> Silence:
        return (await self._registries.registry(registry)).silence

    async def authorization(self, repository: Reference, actions: tuple[str, ...]) -> Authorization:
        registry = await self._registries.registry(repository.registry)
        return await registry.authorization(repository.repository, actions)

    async def renewed(self, repository: Reference, refused: Authorization, challenges: str) -> Authorization | None:
        registry = await self._registries.registry(repository.registry)
        return await registry.renewed_authorization(refused, challenges)

    async def get_manifest(self, repository: Reference, digest: str) -> Manifest:
        registry = await self._registries.registry(repository.registry)
        return await registry.get_manifest(repository.repository, digest)

    async def put_manifest(self, repository: Reference, manifest: Manifest) -> None:
        registry = await self._registries.registry(repository.registry)
        await registry.put_manifest(repository.repository, manifest.digest, manifest.raw, manifest.media_type)

    async def mount_blob(self, repository: Reference, digest: str, source: Reference) -> bool:
        registry = await self._registries.registry(repository.registry)
        return await registry.mount_blob(repository.repository, digest, source.repository)
