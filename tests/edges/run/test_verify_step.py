"""The verify step: what was pushed is read back, compared and pinned; only then is the job verified."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from coordinator.domain.image.descriptors import OCI_MANIFEST, Manifest, sha256
from coordinator.domain.image.platforms import Mode
from coordinator.domain.image.verified_child import from_stored
from coordinator.domain.inputs.build_id import pin_tag
from coordinator.domain.run.events import AttemptEnded, Verified
from coordinator.domain.run.states import AttemptState, JobState
from coordinator.errors import RegistryError
from coordinator.run.context import AttemptContext
from coordinator.run.steps.verify import verify
from tests.edges.run.step_bed import PUSHED, StepBed
from tests.edges.store.store_bed import AMD64

NAME = "7f3a-amd64-1"
LABELS = {"archloom.build-id": "b" * 64, "archloom.mode": "native"}
PIN = pin_tag("b" * 64, AMD64)


def image(bed: StepBed, architecture: str = "amd64", **labels: str) -> Manifest:
    """An image in the registry, by its digest."""
    config = json.dumps({"os": "linux", "architecture": architecture, "config": {"Labels": {**LABELS, **labels}}})
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
    assert steps.client.asked == [("forget", NAME)]


async def test_a_pin_that_is_there_is_not_written_again(steps):
    """A registry with immutable tags would refuse it."""
    manifest = image(steps)
    steps.registry.manifests[PIN] = manifest

    await verify(pushed(steps, manifest.digest))

    assert (steps.job().state, steps.registry.tagged) == (JobState.VERIFIED, [])


@pytest.mark.parametrize(
    ("architecture", "labels"),
    [("arm64", {}), ("amd64", {"archloom.build-id": "c" * 64}), ("amd64", {"archloom.mode": "emulated"})],
)
async def test_an_image_that_is_not_what_was_asked_for_fails(steps, architecture, labels):
    """Of another platform, build or mode: the build's fault, and no pin."""
    manifest = image(steps, architecture, **labels)

    await verify(pushed(steps, manifest.digest))

    assert (steps.ended().state, steps.ended().code) == (AttemptState.FAILED, "mismatch")
    assert steps.registry.tagged == []
    assert isinstance(steps.events[-1], AttemptEnded)
    assert steps.job().state is JobState.ACTIVE


@pytest.mark.parametrize("code", ["not_found", "unavailable", "denied", ""])
async def test_a_registry_that_does_not_answer_well_loses_the_attempt(steps, code):
    """Not the build's fault, whatever the registry says."""

    async def refuse(*_: object) -> Manifest:
        raise RegistryError("no", code=code)

    steps.registry.get_manifest = refuse

    await verify(pushed(steps, "sha256:" + "0" * 64))

    assert (steps.ended().state, steps.ended().code) == (AttemptState.LOST, "registry")


async def test_a_job_that_has_ended_meanwhile_stays_as_it_is(steps):
    """The store drops the second winner."""
    manifest = image(steps)
    ctx = pushed(steps, manifest.digest)
    await verify(ctx)
    before = steps.job()

    await verify(ctx)

    assert steps.job() == before
    assert steps.registry.tagged == [(PIN, manifest.digest)]
