"""An image with another platform in its config: the same layers, environment and history.

BuildKit builds on a single image manifest whatever platform its config has, and writes the target's platform into the
result (`frontend/dockerfile/dockerfile2llb/convert.go`, `finalizeResultImage`). Engines find such an image in a
registry only: what they hold must have the requested platform (moby `builder/builder-next/adapters/containerimage`,
`platformMatches`). A build from this image gives what a build from the original in its registry gives.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from coordinator.domain.image.descriptors import Manifest, malformed, read_json, sha256
from coordinator.domain.image.platforms import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class RewrittenImage:
    """The manifest and the config, which no registry has. The layers are those of the original."""

    manifest: Manifest
    config: bytes = field(repr=False)
    config_digest: str


def rewrite_platform(manifest: Manifest, config: bytes, platform: Platform) -> RewrittenImage:
    """Return this image for `platform`. The same input gives the same digest. Raises RegistryError `malformed`."""
    document = read_json(config, f"the config of {manifest.digest}")
    words = {"os": platform.os, "architecture": platform.architecture}
    if any(document.get(key) != word for key, word in words.items()):
        document.pop("os.version", None)
    document.pop("variant", None)
    raw_config = _json({**document, **words, **({"variant": platform.variant} if platform.variant else {})})
    index = read_json(manifest.raw, manifest.digest)
    described = index.get("config")
    if not isinstance(described, dict):
        raise malformed(manifest.digest, "it has no config")
    described = {key: value for key, value in described.items() if key != "data"}
    config_digest = sha256(raw_config)
    raw = _json({**index, "config": {**described, "digest": config_digest, "size": len(raw_config)}})
    return RewrittenImage(
        manifest=Manifest(raw=raw, media_type=manifest.media_type, digest=sha256(raw)),
        config=raw_config,
        config_digest=config_digest,
    )


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
