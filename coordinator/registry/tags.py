"""Tags, written only where they change."""

from __future__ import annotations

from coordinator.domain.image.descriptors import Manifest
from coordinator.registry.client import Registry


async def set_tag(registry: Registry, repository: str, tag: str, manifest: Manifest) -> None:
    """Point the tag at this manifest where it does not yet.

    Registries with immutable tags refuse even a PUT of the same digest.
    """
    current = await registry.head_manifest(repository, tag)
    if current is None or current.digest != manifest.digest:
        await registry.put_manifest(repository, tag, manifest.raw, manifest.media_type)
