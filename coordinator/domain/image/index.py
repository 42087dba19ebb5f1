"""Assemble children into one index, and resolve an index to the entry that a client takes.

`assemble` is canonical: the same children in any order give the same bytes, so publishing is idempotent. Clients take
the first entry that matches (image-spec), so the order of entries is fixed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from coordinator.domain.causes import Cause
from coordinator.domain.image.descriptors import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    Descriptor,
    Manifest,
    malformed,
    read_descriptor,
    read_json,
    sha256,
)
from coordinator.domain.image.platforms import Platform
from coordinator.errors import RegistryError

_UNKNOWN = {"architecture": "unknown", "os": "unknown"}
_PLATFORM_ORDER = ("architecture", "os", "os.version", "os.features", "variant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """The verified image manifest of one platform, and the attestations whose subject is this manifest."""

    platform: Platform
    descriptor: Descriptor
    attestations: tuple[Descriptor, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An index ready to be pushed. `digest` is over `raw`; `media_type` is the `mediaType` in `raw`."""

    raw: bytes = field(repr=False)
    media_type: str
    digest: str

    @property
    def manifest(self) -> Manifest:
        return Manifest(raw=self.raw, media_type=self.media_type, digest=self.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexImages:
    """The images of an index, nested indexes opened. Every descriptor has a platform.

    `listed` have it from the index, `unlisted` from their own config.
    """

    listed: tuple[Descriptor, ...]
    unlisted: tuple[Descriptor, ...] = ()

    def resolve(self, platform: Platform) -> Descriptor | None:
        """Return the image that a client on `platform` takes, `None` where no image matches.

        containerd prefers any listed image to every unlisted one (`images.Manifest` in `core/images/image.go`). Of
        unlisted images it takes the first that matches; newer versions look at the first one only and then fail.
        """
        first = (image for image in self.unlisted if image.platform and runs_on(image.platform, platform))
        return resolve(self.listed, platform) or next(first, None)

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """The platforms of the images, in order, each once."""
        found = (image.platform for image in (*self.listed, *self.unlisted))
        return tuple(dict.fromkeys(platform for platform in found if platform))


def assemble(children: Iterable[Child]) -> Index:
    """Return the index of these children: a Docker manifest list or an OCI index.

    It is a Docker list where all images are Docker manifests without annotations and there are no attestations. Images
    come first, by `Platform.sort_key`, then attestations in the order of their images. Raises RegistryError:
    `duplicate` for two children of one platform or one digest, `mismatch` for a descriptor that names another
    platform or an attestation of another image, `empty` without children.
    """
    ordered = sorted(children, key=lambda child: child.platform.sort_key)
    if not ordered:
        raise RegistryError("an index needs at least one image", code="empty")
    _refuse_duplicates(ordered)
    images = [_image(child) for child in ordered]
    attestations = [entry for child in ordered for entry in _attestations(child)]
    docker = not attestations and all(image.media_type == DOCKER_MANIFEST and not image.annotations for image in images)
    media_type = DOCKER_LIST if docker else OCI_INDEX
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [entry.to_json() for entry in (*images, *attestations)],
    }
    raw = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    return Index(raw=raw, media_type=media_type, digest=sha256(raw))


def parse_index(raw: bytes, what: str) -> tuple[Descriptor, ...]:
    """Return the entries of an index in order, with unknown members. Raises RegistryError (`malformed`)."""
    manifests = read_json(raw, what).get("manifests")
    # Go's encoding/json writes a nil slice as `null`.
    if manifests is None:
        return ()
    if not isinstance(manifests, list):
        raise malformed(what, "its manifests are not a list")
    return tuple(read_descriptor(entry, what) for entry in manifests)


def resolve(entries: Sequence[Descriptor], platform: Platform) -> Descriptor | None:
    """Return the entry that a client on `platform` takes, `None` where no entry matches.

    containerd's rule within one architecture: the highest variant that is not above the client's, and the first of
    equal entries. Fallback to another architecture (arm64 to arm, amd64 to 386) is excluded: engines differ on it.
    """
    best: Descriptor | None = None
    best_level = -1.0
    for entry in entries:
        level = -1.0 if entry.platform is None else _match(entry.platform, platform)
        if level >= 0 and (best is None or level > best_level):
            best, best_level = entry, level
    return best


def runs_on(image: Platform, platform: Platform) -> bool:
    """Return whether a client on `platform` takes an image for `image`, by the rule of `resolve`."""
    return _match(image, platform) >= 0


def _match(candidate: Platform, client: Platform) -> float:
    """Return the candidate's level, -1 where this client does not take it."""
    if (candidate.os, candidate.architecture) != (client.os, client.architecture):
        return -1.0
    level, most = _level(candidate), _level(client)
    if candidate == client:
        return max(level, 0.0)
    return level if 0 <= level < most else -1.0


def with_platform(descriptor: Descriptor, platform: Platform) -> Descriptor:
    """Return the descriptor with this platform in the place of its own."""
    members: dict[str, object] = {"architecture": platform.architecture, "os": platform.os}
    if platform.variant:
        members["variant"] = platform.variant
    return _with_platform(descriptor, members)


def _level(platform: Platform) -> float:
    """Return the variant as a number, -1 for a variant without an order (ppc64le's `power9`)."""
    if not platform.variant:
        return {"amd64": 1.0, "arm64": 8.0}.get(platform.architecture, 0.0)
    number = re.fullmatch(r"v(\d+(?:\.\d+)?)", platform.variant)
    return float(number[1]) if number else -1.0


def _refuse_duplicates(ordered: Sequence[Child]) -> None:
    by_platform: dict[Platform, str] = {}
    by_digest: dict[str, Platform] = {}
    for child in ordered:
        platform, digest = child.platform, child.descriptor.digest
        if platform in by_platform:
            raise RegistryError(
                f"two images for {platform}: {by_platform[platform]} and {digest}; clients would never see the second",
                code="duplicate",
            )
        if digest in by_digest:
            raise RegistryError(
                f"one image for two platforms, {by_digest[digest]} and {platform}: {digest}", code="duplicate"
            )
        by_platform[platform] = digest
        by_digest[digest] = platform


def _image(child: Child) -> Descriptor:
    descriptor = child.descriptor
    listed = descriptor.platform
    if listed is not None and listed != child.platform:
        raise RegistryError(
            f"{descriptor.digest} is listed as {listed}, but its image is {child.platform}", code=Cause.MISMATCH
        )
    members = descriptor.extra.get("platform")
    platform = dict(members) if isinstance(members, dict) else {}
    platform.pop("variant", None)
    platform |= {"architecture": child.platform.architecture, "os": child.platform.os}
    if child.platform.variant:
        platform["variant"] = child.platform.variant
    return _with_platform(descriptor, platform)


def _attestations(child: Child) -> list[Descriptor]:
    entries = {entry.digest: entry for entry in child.attestations}
    for entry in entries.values():
        if entry.subject != child.descriptor.digest:
            raise RegistryError(
                f"attestation {entry.digest} is for {entry.subject or 'no image'}, not for {child.descriptor.digest}",
                code=Cause.MISMATCH,
            )
    return [_with_platform(entries[digest], dict(_UNKNOWN)) for digest in sorted(entries)]


def _with_platform(descriptor: Descriptor, platform: dict[str, object]) -> Descriptor:
    known = {key: platform.pop(key) for key in _PLATFORM_ORDER if key in platform}
    extra = {**descriptor.extra, "platform": known | dict(sorted(platform.items()))}
    if descriptor.annotations:
        extra["annotations"] = dict(sorted(descriptor.annotations.items()))
    return Descriptor(media_type=descriptor.media_type, digest=descriptor.digest, size=descriptor.size, extra=extra)
