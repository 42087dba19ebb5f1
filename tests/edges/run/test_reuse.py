"""What is reused of a real registry: by its pin's name or the store's word, verified, in the best mode allowed."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from coordinator.domain.hosts.inventory import Pins, RegistrySettings
from coordinator.domain.image.platforms import Mode, Platform
from coordinator.domain.image.references import Reference
from coordinator.domain.image.verified_child import VerifiedChild
from coordinator.domain.inputs.pins import KnownChild, own_pin, pin_tag
from coordinator.domain.targets.request import BuildRequest
from coordinator.domain.targets.target import Emulate, Target
from coordinator.publish.registry_pool import Registries
from coordinator.run.inputs.reuse import find_reusable
from coordinator.store.sqlite import Store
from tests.edges.broker.broker_bed import Known
from tests.edges.store.store_bed import AMD64, ARM64
from tests.services.images import MANIFEST, base_image, push_manifest
from tests.services.registry import Registry as Service

pytestmark = pytest.mark.registry

IDS = {AMD64: "a" * 64, ARM64: "b" * 64}


class Bed:
    """A repository with images of AMD64, and a coordinator that asks for them."""

    def __init__(self, service: Service, store: Store, registries: Registries) -> None:
        self.service = service
        self.store = store
        self.registries = registries
        self.repository = f"reuse/{uuid.uuid4().hex[:8]}"
        self.reference = Reference(service.address, self.repository)

    def image(self, content: str, platform: str = "linux/amd64") -> str:
        base = base_image(self.service, platform, repository=self.repository, tag=content, more=content.encode())
        return base.children[platform]

    async def pin(self, digest: str, mode: Mode, tag: str = "") -> str:
        """As a coordinator with another store did it."""
        registry = await self.registries.registry(self.service.address)
        manifest = await registry.get_manifest(self.repository, digest)
        name = tag or pin_tag(IDS[AMD64], AMD64, mode)
        push_manifest(self.service, self.repository, name, MANIFEST, manifest.raw)
        return name

    def remember(self, child: KnownChild) -> None:
        self.store.children.record(str(self.reference), IDS[AMD64], AMD64, child)

    async def found(self, emulate: Emulate = Emulate.AUTO) -> VerifiedChild | None:
        tag = self.reference.with_tag("1")
        target = Target(name="default", context=".", dockerfile="D", tags=(tag,), platforms=(AMD64, ARM64))
        request, inputs = BuildRequest(target=target, emulate=emulate), SimpleNamespace(build_ids=IDS)
        children: dict[Platform, VerifiedChild] = await find_reusable(
            request, inputs, (AMD64, ARM64), self.registries, self.store
        )
        assert ARM64 not in children
        return children.get(AMD64)


@pytest.fixture(params=["keep"])
async def bed(request: pytest.FixtureRequest, registry: Service) -> AsyncIterator[Bed]:
    settings = {registry.address: RegistrySettings(host=registry.address, pins=Pins(request.param))}
    with Store(None, lambda: 1000.0) as store:
        async with Registries(settings, Known()) as registries:
            yield Bed(registry, store, registries)


async def test_nothing_is_reused_of_an_empty_repository(bed):
    assert await bed.found() is None


@pytest.mark.parametrize(
    ("modes", "emulate", "taken"),
    [
        ((Mode.NATIVE, Mode.COMPAT, Mode.CROSS, Mode.EMULATED), Emulate.AUTO, Mode.NATIVE),
        ((Mode.EMULATED, Mode.CROSS, Mode.COMPAT), Emulate.AUTO, Mode.COMPAT),
        ((Mode.EMULATED, Mode.CROSS), Emulate.NEVER, Mode.CROSS),
        ((Mode.EMULATED,), Emulate.NEVER, None),
        ((Mode.NATIVE, Mode.EMULATED), Emulate.ONLY, Mode.EMULATED),
        ((Mode.NATIVE, Mode.CROSS), Emulate.ONLY, None),
        ((Mode.EMULATED,), Emulate.AUTO, Mode.EMULATED),
    ],
)
async def test_the_best_mode_that_is_allowed_is_taken(bed, modes, emulate, taken):
    """The name says how a child was built; nothing in the image does."""
    digests = {mode: bed.image(mode.value) for mode in modes}
    pins = {mode: await bed.pin(digests[mode], mode) for mode in modes}

    child = await bed.found(emulate)

    assert (child and (child.mode, child.digests[0], child.pin)) == (taken and (taken, digests[taken], pins[taken]))


async def test_a_pin_of_another_platform_is_built_again(bed):
    """Moved by hand."""
    await bed.pin(bed.image("x", "linux/arm64"), Mode.NATIVE)

    assert await bed.found() is None


async def test_a_worse_mode_serves_where_the_better_one_is_damaged(bed):
    await bed.pin(bed.image("x", "linux/arm64"), Mode.NATIVE)
    digest = bed.image("good")
    await bed.pin(digest, Mode.EMULATED)

    child = await bed.found()

    assert child is not None
    assert (child.mode, child.digests) == (Mode.EMULATED, (digest,))


async def test_what_was_pinned_beside_a_bad_child_is_found_by_the_coordinator_that_did(bed):
    """By its store: the plain name leads to the bad one."""
    await bed.pin(bed.image("x", "linux/arm64"), Mode.NATIVE)
    digest = bed.image("good")
    beside = await bed.pin(digest, Mode.NATIVE, own_pin(pin_tag(IDS[AMD64], AMD64, Mode.NATIVE), digest))
    bed.remember(KnownChild(Mode.NATIVE, digest, beside))

    child = await bed.found()

    assert child is not None
    assert (child.digests[0], child.pin) == (digest, beside)


async def test_a_pin_of_an_older_version_is_not_reused(bed):
    """Its image has labels of ours, and its build id had other inputs."""
    await bed.pin(bed.image("old"), Mode.NATIVE, f"archloom-{IDS[AMD64][:16]}-amd64")

    assert await bed.found() is None


@pytest.mark.parametrize("bed", ["store"], indirect=True)
async def test_without_tags_the_store_knows_what_is_still_there(bed):
    """A tag that is there all the same is not asked for; a child that is gone is built again."""
    digest = bed.image("a")
    await bed.pin(digest, Mode.NATIVE)
    assert await bed.found() is None

    bed.remember(KnownChild(Mode.NATIVE, digest))
    child = await bed.found()
    assert child is not None
    assert (child.digests[0], child.pin) == (digest, "")
    assert await bed.found(Emulate.ONLY) is None

    bed.remember(KnownChild(Mode.NATIVE, "sha256:" + "0" * 64))
    assert await bed.found() is None


@pytest.mark.parametrize("bed", ["off"], indirect=True)
async def test_nothing_is_reused_where_pins_are_off(bed):
    digest = bed.image("a")
    await bed.pin(digest, Mode.NATIVE)
    bed.remember(KnownChild(Mode.NATIVE, digest))

    assert await bed.found() is None


async def test_no_pin_of_a_worse_mode_is_asked_for(bed):
    """Where the store knows a child that is still good; where it is not, all are asked for."""
    digest = bed.image("a")
    pin = await bed.pin(digest, Mode.COMPAT)
    emulated = bed.image("good")
    worse = await bed.pin(emulated, Mode.EMULATED)
    bed.remember(KnownChild(Mode.COMPAT, digest, pin))

    await bed.found()

    asked = [line.rpartition("/")[2] for line in bed.service.asked(bed.repository) if line.startswith("HEAD")]
    assert pin in asked
    assert worse not in asked

    await bed.pin(bed.image("x", "linux/arm64"), Mode.COMPAT)
    bed.store.children.record(str(bed.reference), IDS[AMD64], AMD64, KnownChild(Mode.COMPAT, "sha256:" + "0" * 64))
    child = await bed.found()

    assert child is not None
    assert (child.mode, child.digests[0]) == (Mode.EMULATED, emulated)


async def test_what_is_reused_is_remembered(bed):
    """So that a registry that is set to `pins: store` later goes on from there."""
    digest = bed.image("a")
    pin = await bed.pin(digest, Mode.COMPAT)

    await bed.found()

    known = bed.store.children.known(str(bed.reference), IDS[AMD64], AMD64)
    assert known == (KnownChild(Mode.COMPAT, digest, pin),)
