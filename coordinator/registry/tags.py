"""Tags, moved only where they say something else."""

from __future__ import annotations

from coordinator.domain.image.descriptors import Manifest
from coordinator.registry.client import Registry


async def set_tag(registry: Registry, repository: str, tag: str, manifest: Manifest) -> None:
    """The tag names this manifest. Registries with immutable tags refuse even a PUT of the same digest."""
    found = await registry.head_manifest(repository, tag)
    if found is None or found.digest != manifest.digest:
        await registry.put_manifest(repository, tag, manifest.raw, manifest.media_type)
