"""Reuse: instead of building, verify and take the child that the registry already has under its build id's pin."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from coordinator.domain.causes import Cause
from coordinator.domain.image import labels
from coordinator.domain.image.platforms import Mode, Platform
from coordinator.domain.image.verified_child import VerifiedChild
from coordinator.domain.inputs.build_id import pin_tag
from coordinator.domain.run.model import Run
from coordinator.domain.targets.request import BuildRequest
from coordinator.domain.targets.target import Emulate
from coordinator.errors import RegistryError
from coordinator.image.child import read_child
from coordinator.publish.registry_pool import Registries
from coordinator.registry.client import Registry
from coordinator.run.inputs.gather import Inputs
from coordinator.store.sqlite import Store

_NOT_REUSABLE = frozenset({Cause.MISMATCH, Cause.MALFORMED, Cause.NOT_FOUND, Cause.SCHEMA1})


async def find_reusable(
    request: BuildRequest, inputs: Inputs, platforms: Collection[Platform], registries: Registries
) -> dict[Platform, VerifiedChild]:
    """Return the children of these platforms that the target's first repository already has, verified."""
    first = request.target.repositories[0]
    registry = await registries.registry(first.registry)
    children = await asyncio.gather(
        *(
            reusable(registry, first.repository, platform, inputs.build_ids[platform], request.emulate)
            for platform in platforms
        )
    )
    return {platform: child for platform, child in zip(platforms, children, strict=True) if child is not None}


def take_reused(store: Store, run: Run, reused: Mapping[Platform, VerifiedChild]) -> None:
    """Commit the reused children: their jobs need no host."""
    for job in run.jobs:
        child = reused.get(job.platform)
        if child is not None:
            store.verify_job(job.id, child.to_json(), winner=None)


async def reusable(
    registry: Registry, repository: str, platform: Platform, build_id: str, emulate: Emulate
) -> VerifiedChild | None:
    """Return the pinned child of this build id, verified; None where it has to be built.

    The pin's tag and the image's labels must both name the build id, and the mode label must satisfy `--emulate`.
    Neither is proof alone: images inherit labels through FROM, and tags can be moved by hand. Where a pin fails the
    check, the platform is built again, and that build moves the pin.
    """
    pin = pin_tag(build_id, platform)
    manifest = await registry.head_manifest(repository, pin)
    if manifest is None:
        return None
    try:
        child = await read_child(registry, repository, manifest.digest, platform, {labels.BUILD_ID: build_id})
    except RegistryError as error:
        if error.code in _NOT_REUSABLE:
            return None
        raise
    mode = child.labels.get(labels.MODE, "")
    if mode not in _accepted(emulate):
        return None
    return VerifiedChild(child=child.child, config_digest=child.config_digest, pin=pin, mode=Mode(mode))


def _accepted(emulate: Emulate) -> tuple[Mode, ...]:
    match emulate:
        case Emulate.AUTO:
            return tuple(Mode)
        case Emulate.NEVER:
            return (Mode.NATIVE, Mode.COMPAT, Mode.CROSS)
        case Emulate.ONLY:
            return (Mode.EMULATED,)
