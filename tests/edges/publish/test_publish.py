"""Tags on a real registry: what is read back decides, and what somebody else has moved is not moved back."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.domain.image.descriptors import Descriptor
from coordinator.domain.image.index import Child
from coordinator.domain.image.platforms import Mode, parse
from coordinator.domain.image.references import Reference
from coordinator.domain.image.references import parse as parse_reference
from coordinator.domain.image.verified_child import VerifiedChild
from coordinator.domain.run.events import TagMoved
from coordinator.domain.run.lease import Driver
from coordinator.domain.run.states import TargetEvent, TargetState
from coordinator.domain.targets.target import Target
from coordinator.errors import DrivenElsewhereError, RegistryError
from coordinator.publish.publish import Publication, index_of, publish
from coordinator.publish.registry_pool import Registries
from coordinator.registry.client import Registry
from coordinator.store.sqlite import Store
from tests.edges.broker.broker_bed import Known
from tests.services.images import MANIFEST, Base, base_image
from tests.services.judges import skopeo_inspect

pytestmark = pytest.mark.registry

AMD64 = parse("linux/amd64")


class Interfered:
    """A registry's client; `after_tag` happens as soon as a tag was put."""

    def __init__(self, client: Registry, after_tag: Callable[[], Awaitable[None]]) -> None:
        self._client = client
        self._after_tag = after_tag

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def put_manifest(self, repository: str, reference: str, raw: bytes, media_type: str) -> None:
        await self._client.put_manifest(repository, reference, raw, media_type)
        if not reference.startswith("sha256:"):
            await self._after_tag()


class InterferedRegistries(Registries):
    """Clients between whose requests somebody else does something."""

    after_tag: Callable[[], Awaitable[None]]

    async def registry(self, host: str) -> Any:
        return Interfered(await super().registry(host), self.after_tag)


@pytest.fixture
def base(registry) -> Base:
    return base_image(registry, "linux/amd64", "linux/arm64", repository=f"publish/{uuid.uuid4().hex[:8]}")


@pytest.fixture
def store(tmp_path: Path, base: Base) -> Iterator[Store]:
    """A run whose one job is verified."""
    digest = base.children["linux/amd64"]
    child = VerifiedChild(
        child=Child(platform=AMD64, descriptor=Descriptor(media_type=MANIFEST, digest=digest, size=0)),
        config_digest="",
        pin="archloom-pin",
        mode=Mode.NATIVE,
    )
    with Store(tmp_path / "archloom.db", time.time) as store:
        driver = Driver(token="t", holder="ada@here", pid=1, started="", boot_id="")
        run = store.create_run("7f3a", {}, {AMD64: "x"}, driver=driver, inputs={}, inventory="")
        store.verify_job(run.jobs[0].id, child.to_json(), winner=None)
        store.move_target("7f3a", TargetEvent.COMPLETE)
        yield store


def publication(store: Store, tag: Reference, registries: Registries, events: list[object]) -> Publication:
    target = Target(name="default", context=".", dockerfile="Dockerfile", tags=(tag,), platforms=(AMD64,))
    return Publication(
        run_id="7f3a",
        target=target,
        store=store,
        registries=registries,
        check_lease=lambda: store.beat("7f3a"),
        emit=events.append,
    )


async def test_a_tag_that_says_what_was_put_there_is_moved(store, base):
    """The store, the event and a judge from outside agree."""
    tag = parse_reference(base.reference)
    events: list[object] = []
    async with Registries({}, Known()) as registries:
        await publish(publication(store, tag, registries, events))

    run = store.run("7f3a")
    assert run.target_state is TargetState.PUBLISHED
    assert events == [TagMoved(reference=str(tag), digest=index_of(run).digest, previous=base.digest)]
    assert skopeo_inspect(str(tag), "linux/amd64")["Architecture"] == "amd64"


async def test_what_is_published_already_is_not_written_again(store, base, registry):
    """The index and the tag are asked for."""
    tag = parse_reference(base.reference)
    async with Registries({}, Known()) as registries:
        await publish(publication(store, tag, registries, []))
        written = [line for line in registry.asked(tag.repository) if not line.startswith(("GET", "HEAD"))]
        run = store.run("7f3a")
        driver = Driver(token="u", holder="ada@here", pid=1, started="", boot_id="")
        store.create_run("8a4b", {}, {AMD64: "x"}, driver=driver, inputs={}, inventory="")
        store.verify_job(store.run("8a4b").jobs[0].id, run.jobs[0].child, winner=None)
        store.move_target("8a4b", TargetEvent.COMPLETE)
        events: list[object] = []
        await publish(replace(publication(store, tag, registries, events), run_id="8a4b", check_lease=lambda: None))

    assert written
    assert [line for line in registry.asked(tag.repository) if not line.startswith(("GET", "HEAD"))] == written
    assert store.run("8a4b").target_state is TargetState.PUBLISHED
    digest = index_of(run).digest
    assert events == [TagMoved(reference=str(tag), digest=digest, previous=digest)]


async def test_a_tag_that_somebody_moves_as_it_is_put_is_a_conflict(store, base, registry):
    """Read back, it says something else: the run does not claim it."""
    tag = parse_reference(base.reference)
    events: list[object] = []

    async def somebody() -> None:
        await (await Registries.registry(registries, tag.registry)).put_manifest(
            tag.repository, tag.tag, theirs.raw, theirs.media_type
        )

    async with InterferedRegistries({}, Known()) as registries:
        other = base_image(registry, "linux/arm64", repository=tag.repository, tag="other")
        theirs = await (await Registries.registry(registries, tag.registry)).get_manifest(tag.repository, other.digest)
        registries.after_tag = somebody
        with pytest.raises(RegistryError, match="somebody else moves it") as error:
            await publish(publication(store, tag, registries, events))

    assert error.value.code == "conflict"
    assert store.run("7f3a").target_state is TargetState.CONFLICT
    assert not any(row.moved for row in store.run("7f3a").tags)
    assert events == []


class Hiding:
    """A registry's client that says of everything that it is not there, so many times."""

    def __init__(self, client: Registry, times: int) -> None:
        self._client = client
        self._left = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def head_manifest(self, repository: str, target: str) -> Descriptor | None:
        self._left -= 1
        return None if self._left >= 0 else await self._client.head_manifest(repository, target)


class HidingRegistries(Registries):
    times = 0

    async def registry(self, host: str) -> Any:
        return Hiding(await super().registry(host), self.times)


@pytest.mark.parametrize("state", [TargetState.INDEXED, TargetState.TAGGING])
async def test_a_registry_that_hides_everything_says_nothing_of_a_tag(store, base, state):
    """Neither that it was not there when the run began to publish, nor that somebody has deleted it since."""
    tag = parse_reference(base.reference)
    async with HidingRegistries({}, Known()) as registries:
        mine = publication(store, tag, registries, [])
        client = await Registries.registry(registries, tag.registry)
        index = index_of(store.run("7f3a"))
        await client.put_manifest(tag.repository, index.digest, index.raw, index.media_type)
        store.move_target("7f3a", TargetEvent.INDEX, digest=index.digest)
        if state is TargetState.TAGGING:
            store.expect_tag("7f3a", str(tag), base.digest)
            store.move_target("7f3a", TargetEvent.TAG)
        registries.times = 2
        with pytest.raises(RegistryError, match="was pushed, and the registry says") as error:
            await publish(mine)
        registries.times = 0
        await publish(mine)

    assert (error.value.code, error.value.registry) == ("not_found", tag.registry)
    assert store.run("7f3a").target_state is TargetState.PUBLISHED


async def test_a_tag_that_moved_since_publishing_began_is_left_alone(store, base, registry):
    """Another run has published meanwhile: its tag stays."""
    tag = parse_reference(base.reference)
    other = base_image(registry, "linux/arm64", repository=tag.repository, tag="other")
    async with Registries({}, Known()) as registries:
        store.move_target("7f3a", TargetEvent.INDEX, digest=index_of(store.run("7f3a")).digest)
        store.expect_tag("7f3a", str(tag), "sha256:" + "0" * 64)
        store.move_target("7f3a", TargetEvent.TAG)
        with pytest.raises(RegistryError, match="when this run began to publish"):
            await publish(publication(store, tag, registries, []))
        client = await registries.registry(tag.registry)
        now = await client.head_manifest(tag.repository, tag.tag)

    assert now is not None
    assert now.digest == base.digest != other.digest


async def test_who_has_lost_the_lease_moves_no_tag(store, base):
    """Asked again right before the tag is put: another coordinator may have moved it since."""
    tag = parse_reference(base.reference)

    def taken() -> None:
        raise DrivenElsewhereError("run 7f3a is driven by bob@there", code="taken")

    async with Registries({}, Known()) as registries:
        mine = publication(store, tag, registries, [])
        with pytest.raises(DrivenElsewhereError):
            await publish(replace(mine, check_lease=taken))
        client = await registries.registry(tag.registry)
        now = await client.head_manifest(tag.repository, tag.tag)

    assert now is not None
    assert now.digest == base.digest
