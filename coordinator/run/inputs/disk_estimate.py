"""Estimate the minimum disk space of a build on its host: the context, and the bases as the registry stores them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from coordinator.domain.dockerfile.bases import BUILD_PLATFORM
from coordinator.domain.image.descriptors import read_descriptor, read_json
from coordinator.domain.image.platforms import Platform
from coordinator.errors import ArchloomError
from coordinator.run.inputs.base_images import Base
from coordinator.run.inputs.gather import Inputs


def spaces(inputs: Inputs, platforms: Sequence[Platform]) -> dict[Platform, int]:
    """Return bytes by platform, a lower bound: a base whose manifest was not read counts as 0.

    The estimate only avoids builds that would be lost for lack of disk space.
    """
    return {platform: inputs.contexts[platform].manifest.size + _of_bases(inputs, platform) for platform in platforms}


def _of_bases(inputs: Inputs, platform: Platform) -> int:
    # Bases may share layers, which an engine stores once.
    layers: dict[str, int] = {}
    for base, image_platform in _bases(inputs, platform):
        layers |= _layers(base, image_platform)
    return sum(layers.values())


def _bases(inputs: Inputs, platform: Platform) -> Iterator[tuple[Base, Platform]]:
    for use in inputs.uses[platform]:
        base = inputs.bases.get(use.text)
        if base is not None:
            yield base, platform if use.platform == BUILD_PLATFORM else use.platform


def _layers(base: Base, platform: Platform) -> Mapping[str, int]:
    """Return the layer sizes in bytes, by digest."""
    try:
        image = base.read.get(base.for_platform(platform))
        found = [] if image is None else read_json(image.manifest.raw, image.manifest.digest).get("layers")
        layers = [read_descriptor(layer, str(base.reference)) for layer in found] if isinstance(found, list) else []
    except ArchloomError:
        return {}
    return {layer.digest: layer.size for layer in layers}
