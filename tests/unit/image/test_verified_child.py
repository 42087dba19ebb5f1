"""A verified child is read from the store as it was written there."""

from __future__ import annotations

import json

from coordinator.domain.image.descriptors import OCI_MANIFEST, Descriptor
from coordinator.domain.image.index import Child
from coordinator.domain.image.platforms import Mode, parse
from coordinator.domain.image.verified_child import VerifiedChild, from_stored

IMAGE = Descriptor(media_type=OCI_MANIFEST, digest="sha256:" + "1" * 64, size=525, extra={"annotations": {"a": "b"}})
ATTESTATION = Descriptor(media_type=OCI_MANIFEST, digest="sha256:" + "2" * 64, size=840)
CHILD = VerifiedChild(
    child=Child(platform=parse("linux/arm64"), descriptor=IMAGE, attestations=(ATTESTATION,)),
    config_digest="sha256:" + "3" * 64,
    pin="archloom-1",
    mode=Mode.CROSS,
    host="pi5",
    attempts=2,
    seconds=1.5,
)
STORED = {
    "platform": "linux/arm64",
    "digest": IMAGE.digest,
    "descriptor": {
        "mediaType": OCI_MANIFEST, "digest": IMAGE.digest, "size": 525, "annotations": {"a": "b"},
    },
    "attestations": [{"mediaType": OCI_MANIFEST, "digest": ATTESTATION.digest, "size": 840}],
    "config_digest": CHILD.config_digest,
    "pin": "archloom-1",
    "mode": "cross",
    "host": "pi5",
    "attempts": 2,
    "seconds": 1.5,
}  # fmt: skip


def test_the_keys_are_a_format_on_disk():
    """A store keeps them for as long as its runs."""
    assert json.loads(json.dumps(CHILD.to_json())) == STORED
    assert from_stored(STORED) == CHILD


def test_seconds_are_kept_to_the_millisecond():
    assert from_stored({**STORED, "seconds": 1.23456}).to_json()["seconds"] == 1.235


def test_the_digests_of_a_child_are_its_images_and_its_attestations():
    assert CHILD.digests == (IMAGE.digest, ATTESTATION.digest)
