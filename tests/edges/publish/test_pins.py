"""Pins in a real registry: never moved, adopted from others, and enough for the registry's own clean-up."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable

import pytest

from coordinator.domain.hosts.inventory import Pins, RegistrySettings
from coordinator.domain.image.descriptors import OCI_MANIFEST, Descriptor, Manifest, sha256
from coordinator.domain.image.index import assemble
from coordinator.domain.image.platforms import Mode, parse
from coordinator.domain.image.references import Reference
from coordinator.domain.inputs.pins import attestation_pin, own_pin, pin_tag
from coordinator.domain.run.events import Event, Notice
from coordinator.image.child import CheckedImage, read_child
from coordinator.publish.pins import good_child, keep_pinned, pin_or_adopt, warn_of_untagged
from coordinator.publish.registry_pool import Registries
from coordinator.registry.client import Registry
from tests.edges.broker.broker_bed import Known
from tests.services.images import base_image
from tests.services.registry import Registry as Service
from tests.services.registry import garbage_collect

pytestmark = pytest.mark.registry

ARM64 = parse("linux/arm64")
PIN = pin_tag("0123456789abcdef" * 4, ARM64, Mode.NATIVE)


@pytest.fixture
def repository() -> str:
    return f"pins/{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def ours(registry: Service) -> AsyncIterator[Registry]:
    async with Registry(RegistrySettings(host=registry.address), Known()) as opened:
        yield opened


async def child(service: Service, ours: Registry, repository: str, content: str) -> CheckedImage:
    """A pushed image, by digest only; another content is another digest."""
    base = base_image(service, "linux/arm64", repository=repository, tag=content, more=content.encode())
    return await read_child(ours, repository, base.children["linux/arm64"], ARM64)


async def holder(ours: Registry, repository: str, tag: str) -> str:
    found = await ours.head_manifest(repository, tag)
    return found.digest if found else ""


async def test_a_child_is_pinned_once(registry, ours, repository):
    """And again at no write."""
    built = await child(registry, ours, repository, "a")

    for _ in range(2):
        assert await pin_or_adopt(ours, repository, built, PIN) == (built, PIN)
    assert await holder(ours, repository, PIN) == built.digest


async def test_the_first_of_two_coordinators_is_published_by_both(registry, ours, repository):
    """Their pin is not moved, and the second's own child gets no tag."""
    first, second = [await child(registry, ours, repository, content) for content in "ab"]
    await pin_or_adopt(ours, repository, first, PIN)

    adopted, pin = await pin_or_adopt(ours, repository, second, PIN)

    assert (adopted.digest, pin) == (first.digest, PIN)
    assert await holder(ours, repository, PIN) == first.digest
    assert await holder(ours, repository, own_pin(PIN, second.digest)) == ""


async def test_two_coordinators_at_once_lose_no_child(registry, ours, repository):
    """Whatever the order of their requests: by the time their indexes are written, each child has a pin."""
    built = [await child(registry, ours, repository, content) for content in "abcd"]

    published = await asyncio.gather(*(pin_or_adopt(ours, repository, one, PIN) for one in built))
    await asyncio.gather(*(keep_pinned(ours, repository, one.digest, pin, ()) for one, pin in published))

    for one, _ in published:
        pins = {await holder(ours, repository, tag) for tag in (PIN, own_pin(PIN, one.digest))}
        assert one.digest in pins


async def test_a_pin_that_somebody_moved_is_left_and_ours_gets_its_own(registry, ours, repository):
    """Moved by hand to another platform's image: no proof, and not ours to move back."""
    built = await child(registry, ours, repository, "a")
    other = base_image(registry, "linux/amd64", repository=repository, tag="other").children["linux/amd64"]
    await ours.claim_tag(repository, PIN, await ours.get_manifest(repository, other))

    pinned, pin = await pin_or_adopt(ours, repository, built, PIN)

    assert (pinned, pin) == (built, own_pin(PIN, built.digest))
    assert await holder(ours, repository, PIN) == other
    assert await holder(ours, repository, pin) == built.digest


async def test_a_missing_child_is_no_good_one(ours, repository):
    assert await good_child(ours, repository, sha256(b"missing"), ARM64) is None


async def test_what_is_pinned_survives_the_clean_up_of_distribution_2(own_registry: Callable[[], Service], repository):
    """Image and attestation; beside them an index's children without tags go, which is what pins are for."""
    service = own_registry()
    async with Registry(RegistrySettings(host=service.address), Known()) as ours:
        kept, lost = [await child(service, ours, repository, content) for content in "ab"]
        attestation = await attest(ours, repository, kept)
        kept = CheckedImage(
            platform=ARM64,
            descriptor=kept.descriptor,
            config_digest=kept.config_digest,
            size=kept.size,
            attestations=(statement_entry(attestation, kept.digest),),
        )
        await pin_or_adopt(ours, repository, kept, PIN)
        for tag, one in (("a", kept), ("b", lost)):
            index = assemble([one.child])
            await ours.put_manifest(repository, tag, index.raw, index.media_type)

        garbage_collect(service)

        assert await holder(ours, repository, attestation_pin(PIN, attestation.digest)) == attestation.digest
        found = [await ours.head_manifest(repository, one.digest) is not None for one in (kept, lost)]
        assert found == [True, False]
        assert await holder(ours, repository, "b") != ""


async def attest(ours: Registry, repository: str, image: CheckedImage) -> Manifest:
    """An attestation's manifest, as BuildKit makes them: an image manifest with statements for layers."""
    image_manifest = json.loads((await ours.get_manifest(repository, image.digest)).raw)
    raw = json.dumps({**image_manifest, "annotations": {"of": image.digest}}).encode()
    await ours.put_manifest(repository, sha256(raw), raw, OCI_MANIFEST)
    return Manifest(raw=raw, media_type=OCI_MANIFEST, digest=sha256(raw))


def statement_entry(attestation: Manifest, image: str) -> Descriptor:
    annotations = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image}
    found = attestation.descriptor
    extra = {"platform": {"os": "unknown", "architecture": "unknown"}, "annotations": annotations}
    return Descriptor(media_type=found.media_type, digest=found.digest, size=found.size, extra=extra)


@pytest.mark.parametrize(("pins", "warned"), [(Pins.KEEP, 0), (Pins.STORE, 1), (Pins.OFF, 1)])
async def test_the_clean_up_is_warned_of_once_a_registry(registry, repository, pins, warned):
    """Debian's registry is distribution 2.8."""
    told: list[Event] = []
    targets = [Reference(registry.address, f"{repository}/{name}") for name in "ab"]
    settings = {registry.address: RegistrySettings(host=registry.address, pins=pins)}

    async with Registries(settings, Known()) as registries:
        await warn_of_untagged(targets, registries, told.append)

    texts = [event.text for event in told if isinstance(event, Notice)]
    assert len(texts) == warned
    assert all(f"`pins: {pins}`" in text and "--delete-untagged" in text for text in texts)
