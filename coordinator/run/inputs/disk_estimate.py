"""Estimate the minimum disk space of a build on its host: the context, and the bases as the registry stores them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from coordinator.domain.image.descriptors import Manifest, read_descriptor, read_json
from coordinator.domain.image.platforms import Platform
from coordinator.domain.image.references import HUB
from coordinator.errors import ArchloomError
from coordinator.publish.registry_pool import Registries
from coordinator.run.inputs.base_images import BUILD_PLATFORM, Base
from coordinator.run.inputs.gather import Inputs

_REGISTRY_TIMEOUT_S = 5.0


async def spaces(inputs: Inputs, platforms: Sequence[Platform], registries: Registries) -> dict[Platform, int]:
    """Return bytes by platform, a lower bound: a base whose registry does not answer in time counts as 0.

    The estimate only avoids builds that would be lost for lack of disk space.
    """
    base_sizes = await asyncio.gather(*(_of_bases(inputs, platform, registries) for platform in platforms))
    return {
        platform: inputs.contexts[platform].manifest.size + size
        for platform, size in zip(platforms, base_sizes, strict=True)
    }


async def _of_bases(inputs: Inputs, platform: Platform, registries: Registries) -> int:
    bases = {
        (use.text, platform if use.platform == BUILD_PLATFORM else use.platform): inputs.bases[use.text]
        for use in inputs.uses[platform]
        if use.text in inputs.bases
    }
    sizes = await asyncio.gather(*(_of_base(base, which, registries) for (_, which), base in bases.items()))
    # Bases may share layers, which an engine stores once.
    return sum({digest: size for layers in sizes for digest, size in layers.items()}.values())


async def _of_base(base: Base, platform: Platform, registries: Registries) -> Mapping[str, int]:
    """Return the layer sizes in bytes, by digest."""
    try:
        async with asyncio.timeout(_REGISTRY_TIMEOUT_S):
            manifest = await _image(base, platform, registries)
            return {} if manifest is None else _layers(manifest)
    except (ArchloomError, TimeoutError):
        return {}


async def _image(base: Base, platform: Platform, registries: Registries) -> Manifest | None:
    if not base.manifest.is_index:
        return base.manifest
    # Docker Hub counts every fetched image manifest as a pull: the limited pulls are left to the builds.
    if base.reference.registry == HUB:
        return None
    registry = await registries.registry(base.reference.registry)
    return await registry.get_manifest(base.reference.repository, base.for_platform(platform))


def _layers(manifest: Manifest) -> dict[str, int]:
    layers = read_json(manifest.raw, manifest.digest).get("layers")
    entries = layers if isinstance(layers, list) else []
    return {layer.digest: layer.size for layer in (read_descriptor(entry, manifest.digest) for entry in entries)}
