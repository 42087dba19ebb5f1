"""What a descriptor says of its platform, as Go's clients read it."""

from __future__ import annotations

import pytest

from coordinator.domain.image.descriptors import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST, Descriptor, sha256
from coordinator.domain.image.platforms import parse


def descriptor(media_type: str = OCI_MANIFEST, **extra: object) -> Descriptor:
    return Descriptor(media_type=media_type, digest=sha256(b"x"), size=1, extra=extra)


@pytest.mark.parametrize(
    ("listed", "platform", "is_listed"),
    [
        ({"os": "linux", "architecture": "arm64", "variant": None}, "linux/arm64", True),
        ({"os": None, "architecture": "arm", "variant": "v6"}, "linux/arm/v6", True),
        ({"architecture": "amd64"}, "linux/amd64", True),
        ({"os": "linux", "architecture": "amd64", "os.version": "5.10", "os.features": ["x"]}, "linux/amd64", True),
        ({"os": "linux", "architecture": None}, None, True),
        ({"os": "linux"}, None, True),
        ({"os": "linux", "architecture": 64}, None, True),
        ({"os": "unknown", "architecture": "unknown"}, None, True),
        ({}, None, True),
        (None, None, False),
    ],
)
def test_platform(listed: object, platform: str | None, is_listed: object) -> None:
    """`null` is an absent member; an entry with an empty platform has one all the same, which nobody takes."""
    entry = descriptor(platform=listed)

    assert entry.platform == (platform and parse(platform))
    assert entry.lists_platform is is_listed


def test_what_may_be_an_image() -> None:
    """Attestations, artifacts and types that nobody knows are no images."""
    attestation = {"vnd.docker.reference.type": "attestation-manifest"}

    assert not descriptor().lists_platform
    assert [descriptor(one).is_index for one in (OCI_INDEX, DOCKER_LIST, OCI_MANIFEST)] == [True, True, False]
    assert [descriptor(one).is_image for one in (OCI_INDEX, OCI_MANIFEST, "application/x", "")] == [True] * 2 + [
        False
    ] * 2
    assert not descriptor(annotations=attestation).is_image
    assert not descriptor(annotations={"vnd.docker.reference.type": "of another kind"}).is_image
