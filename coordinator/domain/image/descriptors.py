"""Descriptors and manifests as a registry holds them, with their bytes and unknown members kept.

Sources: image-spec `descriptor.md`, `manifest.md`, `image-index.md`; distribution-spec "Pulling manifests". A digest
is over bytes, so a manifest is never parsed and serialised again: `Manifest.raw` is what the registry holds.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coordinator.domain.causes import Cause
from coordinator.domain.image.platforms import Platform, normalise
from coordinator.domain.image.references import is_digest
from coordinator.errors import RegistryError

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES = (OCI_INDEX, DOCKER_LIST)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+"
# Every manifest request sends all four: registry 2.x answers 404 for an index it holds when one is missing.
ACCEPT = ", ".join((*INDEXES, *MANIFESTS))
MAX_MANIFEST_BYTES = 4 * 1024 * 1024

REFERENCE_DIGEST = "vnd.docker.reference.digest"
_REFERENCE_TYPE = "vnd.docker.reference.type"
_ATTESTATION = "attestation-manifest"
# The member order of Go's image-spec package, and so of every client that writes a descriptor with it.
_KEY_ORDER = ("mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType")

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """An OCI descriptor: media type, digest and size in bytes. `extra` holds all other members as read."""

    media_type: str
    digest: str
    size: int
    extra: Json = field(default_factory=dict)

    @property
    def annotations(self) -> Json:
        annotations = self.extra.get("annotations")
        return annotations if isinstance(annotations, dict) else {}

    @property
    def platform(self) -> Platform | None:
        """The normalised platform; `None` where it is absent, incomplete or `unknown`."""
        platform = self.extra.get("platform")
        return platform_in(platform) if isinstance(platform, dict) else None

    @property
    def lists_platform(self) -> bool:
        """Whether there is a platform, of whatever content. Go reads `null` as an absent member."""
        return self.extra.get("platform") is not None

    @property
    def subject(self) -> str:
        """The digest of the image that this BuildKit attestation describes; empty for other entries."""
        annotations = self.annotations
        return str(annotations.get(REFERENCE_DIGEST, "")) if annotations.get(_REFERENCE_TYPE) == _ATTESTATION else ""

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEXES

    @property
    def is_image(self) -> bool:
        """Whether this may be an image, or an index of images: not an attestation, an artifact or of unknown type."""
        return self.media_type in (*INDEXES, *MANIFESTS) and _REFERENCE_TYPE not in self.annotations

    def to_json(self) -> dict[str, Any]:
        """Return all members: the known ones in Go's order, then the others by name."""
        members = {**self.extra, "mediaType": self.media_type, "digest": self.digest, "size": self.size}
        known = {key: members.pop(key) for key in _KEY_ORDER if key in members}
        return known | dict(sorted(members.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest or an index, as bytes. Make one with `read_manifest`, which checks its media type."""

    raw: bytes = field(repr=False)
    media_type: str
    digest: str

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.raw))

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEXES


def platform_in(members: Json) -> Platform | None:
    """Return the normalised platform in a descriptor's `platform` or in an image's config; `None` where it has none.

    `null` is an absent member, as Go reads it. A missing system is linux: containerd's `platforms.Normalize` takes the
    system of the program, and BuildKit builds for Linux.
    """
    parts = [members.get(key) or "" for key in ("os", "architecture", "variant")]
    if not parts[1] or "unknown" in parts or not all(isinstance(part, str) for part in parts):
        return None
    return normalise(parts[0] or "linux", parts[1], parts[2])


def sha256(raw: bytes) -> str:
    """Return the digest of these bytes, as `sha256:` and 64 hex digits."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def read_json(raw: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object strictly: UTF-8, no duplicate member, finite numbers.

    JSON parsers differ on other input, and what the coordinator verifies must be what every client reads. Raises
    RegistryError (`malformed`) naming `what`.
    """
    try:
        document = json.loads(
            raw.decode(), object_pairs_hook=_members_once, parse_constant=_refuse_constant, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise malformed(what, str(error)) from error
    if not isinstance(document, dict):
        raise malformed(what, "it is not a JSON object")
    return document


def read_descriptor(found: object, what: str) -> Descriptor:
    """Return the descriptor in a parsed JSON value. Raises RegistryError (`malformed`) naming `what`."""
    if not isinstance(found, dict):
        raise malformed(what, "a descriptor is not an object")
    extra = dict(found)
    media_type, digest, size = extra.pop("mediaType", ""), extra.pop("digest", None), extra.pop("size", None)
    if not isinstance(media_type, str):
        raise malformed(what, "a descriptor's mediaType is not a string")
    # The digest becomes part of a request URL, so nothing but a canonical digest may pass.
    if not isinstance(digest, str) or not is_digest(digest):
        raise malformed(what, f"a descriptor's digest is {digest!r}, not sha256: and 64 hex digits")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise malformed(what, f"the size of {digest} is {size!r}, not a number of bytes")
    return Descriptor(media_type=media_type, digest=digest, size=size, extra=extra)


def read_manifest(raw: bytes, content_type: str, what: str) -> Manifest:
    """Return the manifest in these bytes. Its media type is that of the body, else of the header, else of its members.

    Raises RegistryError: `malformed` where the two disagree or neither gives a known type, `schema1` for Docker's
    schema 1 format.
    """
    document = read_json(raw, what)
    header = content_type.partition(";")[0].strip().lower()
    body_type = document.get("mediaType", "")
    if document.get("schemaVersion") == 1 or header.startswith(_SCHEMA1):
        raise RegistryError(
            f"{what} is in Docker's schema 1 format, which cannot be part of an index",
            hint="push the image again with Docker 1.10 or newer",
            code=Cause.SCHEMA1,
        )
    known = (*INDEXES, *MANIFESTS)
    if body_type and header in known and body_type != header:
        raise malformed(what, f"its Content-Type is {header}, its mediaType is {body_type}")
    media_type = body_type or (header if header in known else _sniff(document))
    if media_type not in known:
        raise malformed(
            what, f"its media type is {media_type or header or 'missing'}, not that of a manifest or an index"
        )
    return Manifest(raw=raw, media_type=media_type, digest=sha256(raw))


def malformed(what: str, why: str) -> RegistryError:
    """Return the error for content that violates its specification."""
    return RegistryError(f"{what} is malformed: {why}", code=Cause.MALFORMED)


def _sniff(document: Json) -> str:
    # `mediaType` is optional in OCI manifests and indexes (image-spec), and some builders leave it out.
    if "manifests" in document:
        return OCI_INDEX
    return OCI_MANIFEST if "config" in document else ""


def _members_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member in an object")
    return members


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large a number")
    return number
