"""`archloom image inspect`: the index of a reference, its entries, and the image that each platform gets."""

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

_COMMON_PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/386", "linux/riscv64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`platform` is empty for an attestation; `subject` is then the digest of the image it describes."""

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
    """Return the present content of `reference`. Raises RegistryError, `not_found` where it does not exist."""
    credentials = DockerCredentials(env.environ, env.home)
    async with Registries(inventory.registries, credentials) as registries:
        registry = await registries.registry(reference.registry)
        manifest = await registry.get_manifest(reference.repository, reference.target)
        if manifest.is_index:
            listed = parse_index(manifest.raw, str(reference))
        else:
            platform = await read_platform(registry, reference.repository, manifest)
            listed = (_only_entry(manifest, platform),)
    requested = dict.fromkeys(
        [*(entry.platform for entry in listed if entry.platform), *(parse(text) for text in _COMMON_PLATFORMS)]
    )
    return Inspected(
        reference=reference,
        media_type=manifest.media_type,
        digest=manifest.digest,
        entries=tuple(_entry(entry) for entry in listed),
        resolved=tuple(
            (platform, found.digest if (found := resolve(listed, platform)) else "") for platform in requested
        ),
    )


def _only_entry(manifest: Manifest, platform: Platform) -> Descriptor:
    """Return the entry of an image without an index."""
    platform_fields = {"os": platform.os, "architecture": platform.architecture, "variant": platform.variant}
    descriptor = manifest.descriptor
    return Descriptor(
        media_type=descriptor.media_type,
        digest=descriptor.digest,
        size=descriptor.size,
        extra={"platform": platform_fields},
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
