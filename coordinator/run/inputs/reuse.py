"""Reuse: a child whose build id the registry already has, under its pin, is verified and taken as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

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

_NOT_OURS = frozenset({"mismatch", "malformed", "not_found", "schema1"})


async def find_reusable(
    request: BuildRequest, inputs: Inputs, platforms: Collection[Platform], registries: Registries
) -> dict[Platform, VerifiedChild]:
    """Those of the platforms that the target's first repository has already, verified."""
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
    """Commit the children that the registry has: their jobs touch no host."""
    for job in run.jobs:
        child = reused.get(job.platform)
        if child is not None:
            store.verify_job(job.id, child.to_json(), winner=None)


async def reusable(
    registry: Registry, repository: str, platform: Platform, build_id: str, emulate: Emulate
) -> VerifiedChild | None:
    """The pinned child of this build id, verified; `None` when it has to be built.

    The pin says which build it is and the image has to agree: its label names the same build id and the mode it was
    built in, which must satisfy `--emulate`. Either alone proves nothing, since children inherit labels through FROM
    and tags can be moved by hand. A pin that does not hold up is built again, and moved by that build.
    """
    pin = pin_tag(build_id, platform)
    found = await registry.head_manifest(repository, pin)
    if found is None:
        return None
    try:
        child = await read_child(registry, repository, found.digest, platform, {labels.BUILD_ID: build_id})
    except RegistryError as error:
        if error.code in _NOT_OURS:
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
