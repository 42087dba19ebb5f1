"""The verify step: what was pushed is read back, compared and pinned; only then is the job verified."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from coordinator.domain.hosts.inventory import Pins
from coordinator.domain.image.descriptors import OCI_INDEX, OCI_MANIFEST, Manifest, sha256
from coordinator.domain.image.platforms import Mode
from coordinator.domain.image.verified_child import from_stored
from coordinator.domain.inputs.pins import KnownChild, attestation_pin, own_pin, pin_tag
from coordinator.domain.run.events import AttemptEnded, Notice, RegistryWait, Verified
from coordinator.domain.run.states import AttemptState, JobState
from coordinator.errors import RegistryError
from coordinator.run.context import AttemptContext
from coordinator.run.steps.verify import verify
from tests.edges.run.step_bed import PUSHED, StepBed
from tests.edges.store.store_bed import AMD64

NAME = "7f3a-amd64-1"
PIN = pin_tag("b" * 64, AMD64, Mode.NATIVE)


def image(bed: StepBed, architecture: str = "amd64", created: str = "") -> Manifest:
    """An image in the registry, by its digest."""
    config = json.dumps({"os": "linux", "architecture": architecture, "created": created})
    kind = "application/vnd.oci.image.config.v1+json"
    entry = {"mediaType": kind, "digest": sha256(config.encode()), "size": len(config)}
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": entry, "layers": []}).encode()
    manifest = Manifest(raw=raw, media_type=OCI_MANIFEST, digest=sha256(raw))
    bed.registry.manifests[manifest.digest] = manifest
    bed.registry.blobs[entry["digest"]] = config.encode()
    return manifest


def pushed(bed: StepBed, digest: str) -> AttemptContext:
    ctx = bed.attempt(*PUSHED)
    bed.clock[0] += 5.0
    return replace(ctx, attempt=replace(ctx.attempt, digest=digest))


async def test_a_verified_job_has_its_child_a_pin_and_nothing_on_its_host(steps):
    """The child is stored as it was read back; its seconds run from the assignment."""
    manifest = image(steps)

    await verify(pushed(steps, manifest.digest))

    assert steps.job().state is JobState.VERIFIED
    child = from_stored(steps.job().child)
    assert (child.child.platform, child.digests, child.pin) == (AMD64, (manifest.digest,), PIN)
    assert (child.host, child.mode, child.attempts, child.seconds) == ("pi5", Mode.NATIVE, 1, 5.0)
    assert steps.registry.tagged == [(PIN, manifest.digest)]
    event = steps.events[-1]
    assert isinstance(event, Verified)
    assert (event.digest, event.pin, event.seconds) == (manifest.digest, PIN, 5.0)
    await steps.run.deletions.finish(steps.events.append)
    assert steps.client.asked == [("forget", NAME)]


async def test_a_pin_that_is_there_is_not_written_again(steps):
    """A registry with immutable tags would refuse it."""
    manifest = image(steps)
    steps.registry.manifests[PIN] = manifest

    await verify(pushed(steps, manifest.digest))

    assert (steps.job().state, steps.registry.tagged) == (JobState.VERIFIED, [])


def known(bed: StepBed) -> tuple[KnownChild, ...]:
    return bed.store.children.known("nas.lan:5000/team/app", "b" * 64, AMD64)


async def test_the_child_that_another_run_pinned_first_is_published(steps):
    """Built from the same inputs, it is as good, and its pin is not moved."""
    theirs, ours = image(steps, created="monday"), image(steps, created="tuesday")
    steps.registry.manifests[PIN] = theirs

    await verify(pushed(steps, ours.digest))

    child = from_stored(steps.job().child)
    assert (child.digests, child.pin, steps.registry.tagged) == ((theirs.digest,), PIN, [])
    assert known(steps) == (KnownChild(Mode.NATIVE, theirs.digest, PIN),)
    assert any(isinstance(event, Notice) and theirs.digest in event.text for event in steps.events)


@pytest.mark.parametrize("fault", ["another platform", "no config"])
async def test_a_pin_of_a_bad_child_is_left_and_ours_gets_its_own(steps, fault):
    """The store remembers the other name: the plain one would not lead here."""
    theirs, ours = image(steps, "arm64" if fault == "another platform" else "amd64", "monday"), image(steps)
    steps.registry.manifests[PIN] = theirs
    if fault == "no config":
        (config,) = (digest for digest, raw in steps.registry.blobs.items() if b"monday" in raw)
        steps.registry.blobs[config] = b"{"

    await verify(pushed(steps, ours.digest))

    beside = own_pin(PIN, ours.digest)
    assert steps.registry.tagged == [(beside, ours.digest)]
    assert from_stored(steps.job().child).pin == beside
    assert known(steps) == (KnownChild(Mode.NATIVE, ours.digest, beside),)


@pytest.mark.parametrize(("pins", "rows"), [(Pins.STORE, 1), (Pins.OFF, 0)])
async def test_a_registry_whose_tags_are_left_alone_gets_none(steps, pins, rows):
    """`store` remembers the child, `off` nothing."""
    steps.registry.settings = replace(steps.registry.settings, pins=pins)
    manifest = image(steps)

    await verify(pushed(steps, manifest.digest))

    assert steps.job().state is JobState.VERIFIED
    assert steps.registry.tagged == []
    assert from_stored(steps.job().child).pin == ""
    assert known(steps) == (KnownChild(Mode.NATIVE, manifest.digest, ""),) * rows


async def test_the_attestations_of_a_child_are_pinned_too(steps):
    """Each under a name of its own: a registry's clean-up would take them from the index that lists them."""
    manifest = image(steps)
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {}, "layers": []}).encode()
    attestation = Manifest(raw=raw, media_type=OCI_MANIFEST, digest=sha256(raw))
    steps.registry.manifests[attestation.digest] = attestation
    index = attested_index(manifest, attestation)
    steps.registry.manifests[index.digest] = index

    await verify(pushed(steps, index.digest))

    assert from_stored(steps.job().child).digests == (manifest.digest, attestation.digest)
    assert steps.registry.tagged == [
        (PIN, manifest.digest),
        (attestation_pin(PIN, attestation.digest), attestation.digest),
    ]


def attested_index(image: Manifest, attestation: Manifest) -> Manifest:
    """What an engine with containerd's store pushes."""
    annotations = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image.digest}
    entries = [
        {**image.descriptor.to_json(), "platform": {"os": "linux", "architecture": "amd64"}},
        {
            **attestation.descriptor.to_json(),
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": annotations,
        },
    ]
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    return Manifest(raw=raw, media_type=OCI_INDEX, digest=sha256(raw))


async def test_an_image_that_is_not_what_was_asked_for_fails(steps):
    """Of another platform: the build's fault, and no pin."""
    manifest = image(steps, "arm64")

    await verify(pushed(steps, manifest.digest))

    assert (steps.ended().state, steps.ended().code) == (AttemptState.FAILED, "mismatch")
    assert steps.registry.tagged == []
    assert isinstance(steps.events[-1], AttemptEnded)
    assert steps.job().state is JobState.ACTIVE


@pytest.mark.parametrize("code", ["not_found", "unavailable", "denied", ""])
async def test_a_registry_that_does_not_answer_well_leaves_the_image_on_its_host(steps, code):
    """Not the build's fault, whatever the registry says; a retry pushes and verifies it again."""

    async def refuse(*_: object) -> Manifest:
        raise RegistryError("no", code=code)

    steps.registry.get_manifest = refuse

    await verify(pushed(steps, "sha256:" + "0" * 64))

    assert (steps.ended().state, steps.ended().code) == (AttemptState.BUILT, "registry")
    assert (steps.job().state, steps.job().kept) == (JobState.LOST, steps.ended())
    # Only once it has been waited for.
    assert sum(steps.pauses) == 300.0


async def test_an_image_is_verified_as_soon_as_the_registry_shows_it(steps):
    """Some show a manifest only seconds after its push; the host keeps the image, and nothing is built again."""
    manifest = image(steps)
    hidden = steps.registry.manifests.pop(manifest.digest)

    async def passes(_: float) -> None:
        steps.registry.manifests[manifest.digest] = hidden

    steps.run.patience.sleep = passes

    await verify(pushed(steps, manifest.digest))

    assert steps.job().state is JobState.VERIFIED
    (wait,) = (event for event in steps.events if isinstance(event, RegistryWait))
    assert (wait.text, wait.kept) == ("it is not there", {"linux/amd64": "pi5"})


async def test_a_job_that_has_ended_meanwhile_stays_as_it_is(steps):
    """The store drops the second winner."""
    manifest = image(steps)
    ctx = pushed(steps, manifest.digest)
    await verify(ctx)
    before = steps.job()

    await verify(ctx)

    assert steps.job() == before
    assert steps.registry.tagged == [(PIN, manifest.digest)]
