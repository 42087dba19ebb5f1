"""What a reference holds: the index, its entries, and what each client gets."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.config.credentials import DockerCredentials
from coordinator.domain.hosts.inventory import Inventory
from coordinator.domain.image.descriptors import Descriptor, Manifest
from coordinator.domain.image.index import parse_index, resolve
from coordinator.domain.image.platforms import Platform, parse
from coordinator.domain.image.references import Reference
from coordinator.environment import Environment
from coordinator.image.child import read_platform
from coordinator.publish.registry_pool import Registries

_USUAL = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/386", "linux/riscv64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`platform` is empty for an attestation, whose `subject` is the image it speaks of."""

    platform: str
    digest: str
    media_type: str
    size: int
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    reference: Reference
    media_type: str
    digest: str
    entries: tuple[Entry, ...]
    resolved: tuple[tuple[Platform, str], ...]

    def to_json(self) -> dict[str, object]:
        return {
            "reference": str(self.reference),
            "media_type": self.media_type,
            "digest": self.digest,
            "entries": [
                {
                    "platform": entry.platform or None,
                    "digest": entry.digest,
                    "media_type": entry.media_type,
                    "size": entry.size,
                    **({"subject": entry.subject} if entry.subject else {}),
                }
                for entry in self.entries
            ],
            "resolves": {str(platform): digest or None for platform, digest in self.resolved},
        }


async def inspect(reference: Reference, inventory: Inventory, env: Environment) -> Inspected:
    """What `reference` holds now. Raises RegistryError, `not_found` where there is nothing."""
    credentials = DockerCredentials(env.environ, env.home)
    async with Registries(inventory.registries, credentials) as registries:
        registry = await registries.registry(reference.registry)
        manifest = await registry.get_manifest(reference.repository, reference.target)
        if manifest.is_index:
            listed = parse_index(manifest.raw, str(reference))
        else:
            platform = await read_platform(registry, reference.repository, manifest)
            listed = (_alone(manifest, platform),)
    asked = dict.fromkeys([*(entry.platform for entry in listed if entry.platform), *(parse(text) for text in _USUAL)])
    return Inspected(
        reference=reference,
        media_type=manifest.media_type,
        digest=manifest.digest,
        entries=tuple(_entry(entry) for entry in listed),
        resolved=tuple((platform, found.digest if (found := resolve(listed, platform)) else "") for platform in asked),
    )


def _alone(manifest: Manifest, platform: Platform) -> Descriptor:
    said = {"os": platform.os, "architecture": platform.architecture, "variant": platform.variant}
    descriptor = manifest.descriptor
    return Descriptor(
        media_type=descriptor.media_type, digest=descriptor.digest, size=descriptor.size, extra={"platform": said}
    )


def _entry(descriptor: Descriptor) -> Entry:
    platform = "" if descriptor.subject or descriptor.platform is None else str(descriptor.platform)
    return Entry(
        platform=platform,
        digest=descriptor.digest,
        media_type=descriptor.media_type,
        size=descriptor.size,
        subject=descriptor.subject,
    )
