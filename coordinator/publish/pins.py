"""Pin children in a registry. A pin is never moved to another digest: without labels in the images, its name is the
proof of what its image is (`docs/decisions/0011-pins.md`)."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.domain.causes import Cause
from coordinator.domain.hosts.inventory import Pins
from coordinator.domain.image.descriptors import Descriptor, Manifest
from coordinator.domain.image.platforms import Platform
from coordinator.domain.image.references import Reference
from coordinator.domain.inputs.pins import attestation_pin, own_pin
from coordinator.domain.run.events import Emit, Notice
from coordinator.errors import RegistryCode, RegistryError
from coordinator.image.child import CheckedImage, read_child
from coordinator.parallel import in_parallel
from coordinator.publish.registry_pool import Registries
from coordinator.registry.client import Registry
from coordinator.registry.garbage_collection import deletes_untagged_children

# The answers that say something of the child itself, not of the registry.
_BAD_CHILD = frozenset({RegistryCode.CORRUPT, Cause.MISMATCH, Cause.MALFORMED, Cause.NOT_FOUND, Cause.SCHEMA1})


async def good_child(
    registry: Registry, repository: str, digest: str, platform: Platform, *, sizes: bool = True
) -> CheckedImage | None:
    """Return the child, verified, or None where it is missing, damaged or of another platform.

    `sizes`: ask for the sizes of its layers too, which is done once for a digest.
    """
    try:
        return await read_child(registry, repository, digest, platform, sizes=sizes)
    except RegistryError as error:
        if error.code in _BAD_CHILD:
            return None
        raise


async def pin_or_adopt(registry: Registry, repository: str, child: CheckedImage, pin: str) -> tuple[CheckedImage, str]:
    """Pin the child, and return the child to publish and its pin.

    Where another coordinator pinned another digest for the same inputs first, that child is as good and is returned;
    where it does not pass the verification, this child gets a pin of its own.
    """
    manifest = await registry.get_manifest(repository, child.digest)
    pinned = await registry.claim_tag(repository, pin, manifest)
    if pinned != child.digest:
        other = await good_child(registry, repository, pinned, child.platform)
        if other is not None:
            return other, pin
        pin = await _pin_beside(registry, repository, pin, manifest)
    await _pin_attestations(registry, repository, pin, child.attestations)
    return child, pin


async def warn_of_untagged(repositories: Sequence[Reference], registries: Registries, emit: Emit) -> None:
    """Emit a notice for each registry where children get no tag, and whose own clean-up may delete them then."""
    for host, repository in {reference.registry: reference.repository for reference in repositories}.items():
        pins = registries.settings(host).pins
        if pins is not Pins.KEEP and await _deletes_untagged(await registries.registry(host), repository):
            emit(
                Notice(
                    f"registry {host} seems to be distribution 2.x: with `pins: {pins}`, its `garbage-collect "
                    "--delete-untagged` takes images that your tags need; run it without that option, move to "
                    "distribution 3.0, or write `pins: keep`"
                )
            )


async def _deletes_untagged(registry: Registry, repository: str) -> bool:
    try:
        return await deletes_untagged_children(registry, repository)
    except RegistryError:
        # Not every registry lets everybody list tags. Only the warning depends on it.
        return False


async def keep_pinned(
    registry: Registry, repository: str, digest: str, pin: str, attestations: Sequence[Descriptor]
) -> None:
    """Make sure that a pin keeps the child: this one, or one beside it where this one is another child's."""
    if not attestations:
        pinned = await registry.head_manifest(repository, pin)
        if pinned is not None and pinned.digest == digest:
            return
    manifest = await registry.get_manifest(repository, digest)
    if await registry.claim_tag(repository, pin, manifest) != digest:
        pin = await _pin_beside(registry, repository, pin, manifest)
    await _pin_attestations(registry, repository, pin, attestations)


async def _pin_beside(registry: Registry, repository: str, pin: str, manifest: Manifest) -> str:
    beside = own_pin(pin, manifest.digest)
    found = await registry.claim_tag(repository, beside, manifest)
    if found != manifest.digest:
        raise RegistryError(
            f"the tag {registry.name}/{repository}:{beside} is {found}, expected {manifest.digest}",
            hint="delete this tag: archloom alone writes tags of this form",
            code=RegistryCode.CONFLICT,
        )
    return beside


async def _pin_attestations(registry: Registry, repository: str, pin: str, attestations: Sequence[Descriptor]) -> None:
    async def keep(digest: str) -> None:
        manifest = await registry.get_manifest(repository, digest)
        await registry.claim_tag(repository, attestation_pin(pin, digest), manifest)

    await in_parallel(*(keep(entry.digest) for entry in attestations))
