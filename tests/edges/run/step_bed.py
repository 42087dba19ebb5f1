"""A run of two platforms in a real store, with a host and a registry that do what a test says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from coordinator.broker.server import Broker
from coordinator.domain.hosts.inventory import RegistrySettings
from coordinator.domain.image.descriptors import Manifest
from coordinator.domain.image.platforms import Mode
from coordinator.domain.image.references import parse
from coordinator.domain.placement.schedule import Candidate
from coordinator.domain.run.events import Event, Phase
from coordinator.domain.run.model import Attempt, Job
from coordinator.domain.run.states import AttemptEvent
from coordinator.domain.targets.request import BuildRequest
from coordinator.domain.targets.target import Target
from coordinator.errors import LostError, RegistryError
from coordinator.publish.registry_pool import Registries
from coordinator.publish.upstream import Upstream
from coordinator.run.context import AttemptContext, RunContext
from coordinator.run.inputs.gather import InputsGone
from coordinator.store.sqlite import Store
from tests.edges.broker.broker_bed import Known
from tests.edges.run.fixed_hosts import FixedHosts
from tests.edges.store.store_bed import AMD64, ARM64, OURS, assigned

RUN = "7f3a"
TAG = "nas.lan:5000/team/app:1"
BUILDING = (AttemptEvent.SEND, AttemptEvent.SENT)
BUILT = (*BUILDING, AttemptEvent.BUILT)
PUSHED = (*BUILT, AttemptEvent.PUSH, AttemptEvent.PUSHED)


class FakeClient:
    """The agent of a host: it writes down what it is asked, and does then what a test has put in `does`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.does: dict[str, Callable[..., None]] = {}
        self.log: Callable[[int], list[object]] = lambda _: []
        # Closed by a test whose host is slow to forget.
        self.may_forget = asyncio.Event()
        self.may_forget.set()
        # For how long engine and disk have not answered, from look to look; the last stays.
        self.silences = [0.0]
        self.disk_silence = 0.0
        # Whether the log was cut off since the host was last reached.
        self.is_cut = False

    @property
    def engine_silence(self) -> float:
        return self.silences.pop(0) if len(self.silences) > 1 else self.silences[0]

    async def forget(self, name: str) -> None:
        await self.may_forget.wait()
        self._do("forget", name)

    async def prune(self, budget: int) -> int:
        self._do("prune", str(budget))
        return budget // 2

    async def cancel(self, name: str) -> None:
        self._do("cancel", name)

    async def push(
        self,
        name: str,
        port: int,
        repository: str,
        tag: str,
        secret: str,
        tell: Callable[[int, int], None],
        last_byte: Callable[[], float],
    ) -> None:
        assert (port, repository, tag, last_byte() > 0) == (4711, "push", name, True)
        self._do("push", name, secret, tell)

    async def start(self, name: str, *, holder: str, slots: int) -> None:
        assert (holder, slots) == (f"ann@desk {name}", 2)
        self._do("start", name)

    async def follow(self, name: str, offset: int) -> AsyncIterator[object]:
        """The items that `log` gives for this offset; an exception among them is raised."""
        self._do(f"follow {offset}", name)
        for item in self.log(offset):
            if isinstance(item, Exception):
                self.is_cut = True
                raise item
            yield item

    async def image(self, name: str) -> AsyncIterator[bytes]:
        self._do("image", name)
        yield b""

    def _do(self, word: str, name: str, *more: object) -> None:
        self.asked.append((word, name))
        if word in self.does:
            self.does[word](*more)


class FakeFarm:
    """One host, reached unless `unreachable` says why not."""

    def __init__(self, client: FakeClient) -> None:
        self._client = client
        self.facts: dict[str, object] = {"pi5": SimpleNamespace(reaches_tunnel=True, clock_offset=-3.0)}
        self.hosts = {"pi5": SimpleNamespace(name="pi5", cache_budget=None, reconnect_for=60.0, memory_floor=None)}
        self.unreachable: Exception | None = None
        self.opened_ahead: list[str] = []
        self.hurried = False
        self.missed: list[str] = []

    def miss(self, host: str, error: LostError) -> None:
        assert host == "pi5"
        self.missed.append(error.code)

    def hurry(self) -> None:
        self.hurried = True

    def open_ahead(self, host: str) -> None:
        self.opened_ahead.append(host)

    def facts_of(self, host: str) -> object:
        if host not in self.facts:
            raise LostError(f"{host} has not answered", code="unreachable")
        return self.facts[host]

    def slots_of(self, host: str) -> int:
        assert host == "pi5"
        return 2

    async def client(self, host: str) -> FakeClient:
        assert host in ("pi4", "pi5")
        if self.unreachable is not None:
            raise self.unreachable
        return self._client

    async def reach(self, host: str, tell: Callable[[float], None]) -> FakeClient:
        """The agent; after a cut it is waited for."""
        if self._client.is_cut:
            self._client.is_cut = False
            tell(60.0)
        return await self.client(host)

    @asynccontextmanager
    async def tunnel(self, host: str) -> AsyncIterator[int]:
        assert host == "pi5"
        yield 4711


class FakeRegistry:
    """Manifests by digest and by tag, blobs by digest, and every tag that was written."""

    def __init__(self) -> None:
        self.manifests: dict[str, Manifest] = {}
        self.blobs: dict[str, bytes] = {}
        self.tagged: list[tuple[str, str]] = []
        self.settings = RegistrySettings(host="nas.lan:5000")
        # Whose credentials are read again.
        self.forgotten: list[str] = []

    async def head_manifest(self, repository: str, target: str) -> Manifest | None:
        assert repository == "team/app"
        return self.manifests.get(target)

    async def get_manifest(self, repository: str, target: str) -> Manifest:
        found = await self.head_manifest(repository, target)
        if found is None:
            raise RegistryError("it is not there", code="not_found")
        return found

    async def get_blob(self, repository: str, digest: str, limit: int) -> bytes:  # noqa: ARG002
        assert repository == "team/app"
        return self.blobs[digest]

    async def blob_size(self, repository: str, digest: str) -> int | None:
        assert repository == "team/app"
        return len(self.blobs[digest])

    async def claim_tag(self, repository: str, tag: str, manifest: Manifest) -> str:
        if tag not in self.manifests:
            await self.put_manifest(repository, tag, manifest.raw, manifest.media_type)
        return self.manifests[tag].digest

    async def put_manifest(self, repository: str, target: str, raw: bytes, media_type: str) -> None:
        assert repository == "team/app"
        (manifest,) = {one for one in self.manifests.values() if (one.raw, one.media_type) == (raw, media_type)}
        self.manifests[target] = manifest
        self.tagged.append((target, manifest.digest))


@dataclass
class StepBed:
    """`events` are those that were emitted; `clock` is the time; `pauses` are the waits for a registry, in seconds."""

    store: Store
    run: RunContext
    client: FakeClient
    farm: FakeFarm
    registry: FakeRegistry
    events: list[Event]
    clock: list[float] = field(default_factory=lambda: [1000.0])
    pauses: list[float] = field(default_factory=list)

    def attempt(self, *steps: AttemptEvent, job: int = 0) -> AttemptContext:
        """A new attempt of the job, after these steps; a second one where there is one."""
        before = self.store.run(RUN).jobs[job]
        made = assigned(self.store, before.id, *steps, host="pi4" if before.live else "pi5")
        return self.run.attempt(made.id)

    def job(self, number: int = 0) -> Job:
        return self.store.run(RUN).jobs[number]

    def ended(self) -> Attempt:
        """The latest attempt of the first job, as it is stored."""
        return self.job().attempts[-1]

    def phases(self) -> list[str]:
        """The texts of the phases that were emitted."""
        return [event.text for event in self.events if isinstance(event, Phase)]


@pytest.fixture
def steps(tmp_path: Path) -> Iterator[StepBed]:
    yield from beds(tmp_path / "state", fail_fast=False)


@pytest.fixture
def hasty_steps(tmp_path: Path) -> Iterator[StepBed]:
    """With --fail-fast."""
    yield from beds(tmp_path / "state", fail_fast=True)


def beds(state: Path, *, fail_fast: bool) -> Iterator[StepBed]:
    clock, events, pauses = [1000.0], [], []
    client, registry = FakeClient(), FakeRegistry()
    farm = FakeFarm(client)

    async def the_registry(name: str) -> FakeRegistry:
        assert name == "nas.lan:5000"
        return registry

    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Store(None, lambda: clock[0]))
        store.create_run(
            RUN,
            {"tags": [TAG], "fail_fast": fail_fast},
            {AMD64: "b" * 64, ARM64: "a" * 64},
            driver=OURS,
            inputs={},
            inventory="",
        )
        session = SimpleNamespace(
            env=SimpleNamespace(clock=lambda: clock[0], state=state, holder="ann@desk"),
            store=store,
            inventory=SimpleNamespace(registry_patience=300.0),
            registries=SimpleNamespace(
                registry=the_registry,
                settings=lambda _: registry.settings,
                start_over=registry.forgotten.append,
            ),
            broker=Broker(Upstream(Registries({}, Known()))),
            farm=farm,
            emit=events.append,
        )
        target = Target(
            name="default", context="/src", dockerfile="/src/Dockerfile", tags=(parse(TAG),), platforms=(AMD64, ARM64)
        )
        run = RunContext(
            session=session,
            run_id=RUN,
            lease=None,
            request=BuildRequest(target=target, fail_fast=fail_fast),
            inputs_or_gone=InputsGone("not needed"),
            hosts=FixedHosts({platform: [Candidate("pi5", Mode.NATIVE)] for platform in (AMD64, ARM64)}, {"pi5": 2}),
        )

        async def passes(seconds: float) -> None:
            pauses.append(seconds)
            clock[0] += seconds

        run.patience.clock = lambda: clock[0]
        run.patience.sleep = passes
        yield StepBed(store, run, client, farm, registry, events, clock, pauses)
