"""Reuse: instead of building, verify and take the child that the registry already has under its build id's pin."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from coordinator.domain.hosts.inventory import Pins
from coordinator.domain.image.platforms import Mode, Platform
from coordinator.domain.image.verified_child import VerifiedChild
from coordinator.domain.inputs.pins import KnownChild, own_pin, pin_tag
from coordinator.domain.run.model import Run
from coordinator.domain.targets.request import BuildRequest
from coordinator.domain.targets.target import Emulate
from coordinator.parallel import in_parallel
from coordinator.publish.pins import good_child
from coordinator.publish.registry_pool import Registries
from coordinator.registry.client import Registry
from coordinator.run.inputs.gather import Inputs
from coordinator.store.sqlite import Store


async def find_reusable(
    request: BuildRequest, inputs: Inputs, platforms: Collection[Platform], registries: Registries, store: Store
) -> dict[Platform, VerifiedChild]:
    """Return the children of these platforms that the target's first repository already has, verified.

    A pin's name is the proof of build id and mode, since a pin is never moved; a child of the best mode that
    `--emulate` allows is taken. Where none passes the verification, the platform is built again.
    """
    first = request.target.repositories[0]
    pins = registries.settings(first.registry).pins
    if pins is Pins.OFF:
        return {}
    registry = await registries.registry(first.registry)
    modes = accepted_modes(request.emulate)

    async def find(platform: Platform) -> VerifiedChild | None:
        build_id = inputs.build_ids[platform]
        tags = {mode: pin_tag(build_id, platform, mode) for mode in modes} if pins is Pins.KEEP else {}
        # The store knows what has no tag, and what this coordinator pinned beside a tag of a bad child.
        stored = [child for child in store.children.known(str(first), build_id, platform) if child.mode in modes]
        for asked in _in_turn(modes, stored):
            pinned = await _pinned(registry, first.repository, {mode: tags[mode] for mode in asked if mode in tags})
            known = (_with_pin(child, pinned, tags) for child in stored if child.mode in asked)
            for candidate in sorted([*pinned, *known], key=lambda child: child.mode.rank):
                # What the store has was checked layer by layer when it was put there.
                is_known = any(known_child.digest == candidate.digest for known_child in stored)
                child = await good_child(registry, first.repository, candidate.digest, platform, sizes=not is_known)
                if child is not None:
                    store.children.record(str(first), build_id, platform, candidate)
                    return VerifiedChild(
                        child=child.child, config_digest=child.config_digest, pin=candidate.tag, mode=candidate.mode
                    )
        return None

    children = await in_parallel(*map(find, platforms))
    return {platform: child for platform, child in zip(platforms, children, strict=True) if child is not None}


def take_reused(store: Store, run: Run, reused: Mapping[Platform, VerifiedChild]) -> None:
    """Commit the reused children: their jobs need no host."""
    for job in run.jobs:
        child = reused.get(job.platform)
        if child is not None:
            store.verify_job(job.id, child.to_json(), winner=None)


def _in_turn(modes: Collection[Mode], stored: Collection[KnownChild]) -> list[list[Mode]]:
    """Return the modes to ask for first, and those to ask for where none of the first has a good child.

    Nothing worse than the best child that the store knows is taken where that child is still good.
    """
    best = min((child.mode.rank for child in stored), default=len(Mode))
    return [[mode for mode in modes if mode.rank <= best], [mode for mode in modes if mode.rank > best]]


async def _pinned(registry: Registry, repository: str, tags: Mapping[Mode, str]) -> list[KnownChild]:
    """Return what these tags point to. All are asked for at once."""
    found = await in_parallel(*(registry.head_manifest(repository, tag) for tag in tags.values()))
    return [
        KnownChild(mode, manifest.digest, tag)
        for (mode, tag), manifest in zip(tags.items(), found, strict=True)
        if manifest is not None
    ]


def _with_pin(stored: KnownChild, pinned: Collection[KnownChild], tags: Mapping[Mode, str]) -> KnownChild:
    """Return the stored child with the pin that publishing gives it where that is missing or another child's by now."""
    tag = tags.get(stored.mode, "")
    if stored.tag not in ("", tag):
        return stored
    taken = any(child.tag == tag and child.digest != stored.digest for child in pinned)
    return replace(stored, tag=own_pin(tag, stored.digest) if taken else tag)


def accepted_modes(emulate: Emulate) -> tuple[Mode, ...]:
    """Return the modes of the images that `--emulate` allows, the best first."""
    match emulate:
        case Emulate.AUTO:
            return tuple(Mode)
        case Emulate.NEVER:
            return (Mode.NATIVE, Mode.COMPAT, Mode.CROSS)
        case Emulate.ONLY:
            return (Mode.EMULATED,)
