"""Read back and verify what a board pushed: the platform is taken from the image's config, never from the builder.

A child may have been pushed as an index (Docker 29 does): the image manifest inside is the child, and its attestations
are kept with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from coordinator.domain.causes import Cause
from coordinator.domain.image.descriptors import Descriptor, Manifest, malformed, read_descriptor, read_json
from coordinator.domain.image.index import Child, parse_index
from coordinator.domain.image.platforms import Platform, normalise
from coordinator.errors import RegistryError, UsageError
from coordinator.image.index_images import ContentSource
from coordinator.parallel import in_parallel

# The last one is what some engines write for a config (https://github.com/moby/moby/issues/48361); such a manifest is
# an image where the config has a platform.
_CONFIGS = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    "application/octet-stream",
)
_MAX_CONFIG_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedImage:
    """A child whose config has the requested platform. `size` is the bytes of config and layers, as stored."""

    platform: Platform
    descriptor: Descriptor
    config_digest: str
    size: int
    attestations: tuple[Descriptor, ...] = ()

    @property
    def digest(self) -> str:
        return self.descriptor.digest

    @property
    def child(self) -> Child:
        """The child as `index.assemble` takes it."""
        return Child(platform=self.platform, descriptor=self.descriptor, attestations=self.attestations)


class ChildSource(Protocol):
    """The methods of a registry that reading a child needs. Content has the requested digest."""

    async def get_manifest(self, repository: str, target: str) -> Manifest: ...

    async def get_blob(self, repository: str, digest: str, limit: int) -> bytes: ...

    async def blob_size(self, repository: str, digest: str) -> int | None:
        """Return the bytes of a blob, `None` where the registry does not say it. Raises RegistryError `not_found`."""
        ...


async def read_child(
    source: ChildSource, repository: str, digest: str, wanted: Platform, *, sizes: bool = True
) -> CheckedImage:
    """Return the child below `digest`, verified to be one image for `wanted` that an engine can unpack.

    `sizes`: ask for the size of each layer too. It cannot change under a digest: once is enough.

    Raises RegistryError: `mismatch` (with the found and the expected value), `malformed`, `schema1`, or the source's.
    """
    name = f"{repository}@{digest}"
    manifest = await source.get_manifest(repository, digest)
    attestations: tuple[Descriptor, ...] = ()
    if manifest.is_index:
        entries = parse_index(manifest.raw, name)
        image = _only_image(entries, name, wanted)
        manifest = await source.get_manifest(repository, image.digest)
        if manifest.is_index:
            raise malformed(name, "it is an index of indexes")
        attestations = tuple(entry for entry in entries if entry.subject == manifest.digest)
    config, blobs = _parts(manifest, name)
    document = read_json(await source.get_blob(repository, config.digest, _MAX_CONFIG_BYTES), f"the config of {name}")
    _check_platform(document, wanted, name)
    layers = blobs[1:]
    _check_diff_ids(document, layers, name)
    if sizes:
        await in_parallel(*(_check_size(source, repository, layer, name) for layer in _distinct(layers)))
    return CheckedImage(
        platform=wanted,
        descriptor=manifest.descriptor,
        config_digest=config.digest,
        size=sum(blob.size for blob in blobs),
        attestations=attestations,
    )


def check_is_image(manifest: Manifest, raw_config: bytes, name: str) -> None:
    """Raise UsageError `base` for an artifact, such as a Helm chart: its config is neither typed nor written as one."""
    config = read_descriptor(read_json(manifest.raw, name).get("config"), name)
    if config.media_type in _CONFIGS[:2]:
        return
    with contextlib.suppress(RegistryError):
        if "architecture" in read_json(raw_config, name):
            return
    raise UsageError(
        f"base image {name} is not an image: its config is {config.media_type or 'of no type'}",
        hint="build from an image; what an artifact holds is fetched in a RUN, for example with oras",
        code=Cause.BASE,
    )


async def read_platform(source: ContentSource, repository: str, manifest: Manifest) -> Platform:
    """Return the platform in an image's own config. Raises RegistryError `mismatch` where it has none."""
    name = f"{repository}@{manifest.digest}"
    config, _ = _parts(manifest, name)
    document = read_json(await source.get_blob(repository, config.digest, _MAX_CONFIG_BYTES), f"the config of {name}")
    platform = _platform(document)
    if platform is None:
        raise RegistryError(f"{name} has no platform in its config", code=Cause.MISMATCH)
    return platform


def _distinct(layers: Sequence[Descriptor]) -> list[Descriptor]:
    """Return each layer once that the registry holds: a foreign layer is fetched from its `urls`."""
    return list({(layer.digest, layer.size): layer for layer in layers if not layer.extra.get("urls")}.values())


async def _check_size(source: ChildSource, repository: str, layer: Descriptor, name: str) -> None:
    size = await source.blob_size(repository, layer.digest)
    if size is not None and size != layer.size:
        raise RegistryError(
            f"{name} lists the layer {layer.digest} with {layer.size} bytes, and it has {size}", code=Cause.MISMATCH
        )


def _check_diff_ids(config: Mapping[str, Any], layers: Sequence[Descriptor], name: str) -> None:
    """Raise RegistryError where no engine could unpack the layers: it takes one diff id for each, in this order."""
    rootfs = config.get("rootfs")
    diff_ids = (rootfs.get("diff_ids") or []) if isinstance(rootfs, dict) else []
    if not isinstance(diff_ids, list) or len(diff_ids) != len(layers):
        count = len(diff_ids) if isinstance(diff_ids, list) else "no list of"
        raise RegistryError(
            f"{name} has {len(layers)} layers, and its config has {count} diff_ids", code=Cause.MISMATCH
        )


def _only_image(entries: tuple[Descriptor, ...], name: str, wanted: Platform) -> Descriptor:
    """Return the only entry that is an image: an `unknown/unknown` entry never is (BuildKit's rule)."""
    images = [entry for entry in entries if not entry.subject and not _is_unknown(entry)]
    if len(images) == 1:
        return images[0]
    found = ", ".join(str(image.platform or "no platform") for image in images) or "no image"
    raise RegistryError(f"{name} is an index of {found}; expected one image for {wanted}", code=Cause.MISMATCH)


def _is_unknown(entry: Descriptor) -> bool:
    platform = entry.extra.get("platform")
    return isinstance(platform, dict) and "unknown" in (platform.get("os"), platform.get("architecture"))


def _parts(manifest: Manifest, name: str) -> tuple[Descriptor, list[Descriptor]]:
    """Return the config, and the list of config and layers."""
    document = read_json(manifest.raw, name)
    config = read_descriptor(document.get("config"), name)
    if config.media_type not in _CONFIGS:
        raise RegistryError(
            f"{name} is not a container image: its config is {config.media_type or 'of no type'}", code=Cause.MISMATCH
        )
    layers = document.get("layers") or []
    if not isinstance(layers, list):
        raise malformed(name, "its layers are not a list")
    return config, [config, *(read_descriptor(layer, name) for layer in layers)]


def _platform(config: Mapping[str, Any]) -> Platform | None:
    parts = [str(config.get(key) or "") for key in ("os", "architecture", "variant")]
    return normalise(*parts) if parts[0] and parts[1] else None


def _check_platform(config: Mapping[str, Any], wanted: Platform, name: str) -> None:
    found = _platform(config)
    if found == wanted:
        return
    hint = "check the base image's own platform: `archloom image inspect` shows what a tag holds"
    if config.get("architecture") == "arm" and not config.get("variant"):
        hint = "the image's config has `arm` without a variant, which every client reads as arm/v7"
    raise RegistryError(
        f"the platform of {name} is {found or 'missing'}, expected {wanted}", hint=hint, code=Cause.MISMATCH
    )
