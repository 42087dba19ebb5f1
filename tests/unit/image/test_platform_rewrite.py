"""An image gets another platform in its config, and nothing else changes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.image.descriptors import DOCKER_MANIFEST, Manifest, sha256
from coordinator.domain.image.platform_rewrite import RewrittenImage, rewrite_platform
from coordinator.domain.image.platforms import Platform, parse
from coordinator.errors import RegistryError

LAYERS = [{"mediaType": "l", "digest": sha256(b"layer"), "size": 5}]
WORDS = st.dictionaries(
    st.sampled_from(["os", "architecture", "variant", "os.version"]), st.sampled_from(["x", "linux"])
)


def manifest(raw_config: bytes) -> Manifest:
    config = {"mediaType": "c", "digest": sha256(raw_config), "size": len(raw_config), "data": "e30="}
    document = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config, "layers": LAYERS, "other": 1}
    raw = json.dumps(document).encode()
    return Manifest(raw=raw, media_type=DOCKER_MANIFEST, digest=sha256(raw))


def rewritten(config: object, platform: str) -> RewrittenImage:
    raw = json.dumps(config).encode()
    return rewrite_platform(manifest(raw), raw, parse(platform))


@pytest.mark.parametrize(
    ("found", "platform", "expected"),
    [
        ({"os": "linux", "architecture": "amd64"}, "linux/arm64", {"os": "linux", "architecture": "arm64"}),
        (
            {"os": "linux", "architecture": "arm64", "variant": "v8"},
            "linux/arm/v7",
            {"os": "linux", "architecture": "arm", "variant": "v7"},
        ),
        (
            {"os": "linux", "architecture": "arm", "variant": "v7", "os.version": "5"},
            "linux/arm/v6",
            {"os": "linux", "architecture": "arm", "variant": "v6", "os.version": "5"},
        ),
        (
            {"os": "windows", "architecture": "amd64", "os.version": "10", "os.features": ["x"]},
            "linux/amd64",
            {"os": "linux", "architecture": "amd64", "os.features": ["x"]},
        ),
        ({"variant": None}, "linux/amd64", {"os": "linux", "architecture": "amd64"}),
    ],
)
def test_the_platform_is_the_target_s(found, platform, expected):
    """As BuildKit writes it into a result whose base has another one."""
    image = rewritten({**found, "config": {"Env": ["A=ü"]}}, platform)

    assert json.loads(image.config) == {**expected, "config": {"Env": ["A=ü"]}}


@given(WORDS, st.sampled_from(["linux/arm64", "linux/arm/v6", "linux/386"]))
def test_the_rest_is_kept(words, platform):
    """Layers, media types and unknown members; digests and sizes are of the new bytes; the same again is the same."""
    image = rewritten({**words, "rootfs": {"diff_ids": ["d"]}, "x": 1.5}, platform)

    document, config = json.loads(image.manifest.raw), json.loads(image.config)
    assert Platform(config["os"], config["architecture"], config.get("variant", "")) == parse(platform)
    assert (config["rootfs"], config["x"]) == ({"diff_ids": ["d"]}, 1.5)
    assert document["config"] == {"mediaType": "c", "digest": image.config_digest, "size": len(image.config)}
    assert (document["layers"], document["other"], image.manifest.media_type) == (LAYERS, 1, DOCKER_MANIFEST)
    assert (sha256(image.config), sha256(image.manifest.raw)) == (image.config_digest, image.manifest.digest)
    assert rewrite_platform(manifest(image.config), image.config, parse(platform)).config == image.config


def test_malformed():
    """What is no image cannot be rewritten."""
    raw = b'{"config": []}'
    with pytest.raises(RegistryError, match="it has no config"):
        rewrite_platform(Manifest(raw=raw, media_type=DOCKER_MANIFEST, digest=sha256(raw)), b"{}", parse("linux/386"))
