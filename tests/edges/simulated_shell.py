"""A shell without machines: hosts and a registry that outlive the coordinators, and coordinators that die anywhere.

Theory of operation. A *step* is a commit to the store or one thing done to a host or the registry; each lets the world
go on by one tick, and each may be a coordinator's last. A dead one can neither write nor do anything more, whatever its
coroutines still try; the next one opens the store anew and goes on. Only the decisions, the loop, the store, publishing
and stopping are the real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from coordinator.domain import states
from coordinator.domain.build_id import pin_tag
from coordinator.domain.descriptors import OCI_MANIFEST, Descriptor, Manifest, sha256
from coordinator.domain.index import Child
from coordinator.domain.lease import Driver
from coordinator.domain.platforms import Mode, Platform
from coordinator.domain.references import Reference, is_digest
from coordinator.domain.run import Attempt, Build, Cancel, Job, Publish, Push, Run, Send, Verify
from coordinator.domain.schedule import Candidate
from coordinator.domain.states import AttemptEvent, AttemptState, JobState, TargetState
from coordinator.domain.target import Target
from coordinator.errors import ArchloomError, HeldError, LostError
from coordinator.registry.tags import set_tag
from coordinator.runner.child import StoredChild, from_stored
from coordinator.runner.job_names import agent_job
from coordinator.runner.loop import drive
from coordinator.runner.publish import index_of, publish
from coordinator.runner.request import BuildRequest
from coordinator.runner.stop import cancel, stop
from coordinator.store.sqlite import Store

RUN = "r"
REPOSITORY = Reference("nas.lan", "app")
OLD = Manifest(raw=b"old", media_type=OCI_MANIFEST, digest=sha256(b"old"))
OTHERS = Manifest(raw=b"others", media_type=OCI_MANIFEST, digest=sha256(b"others"))
_PATIENCE = 4
_MOST_PUSHES = 3
# A run that takes longer goes round in circles.
_LONGEST = 5000


class CrashError(BaseException):
    """The coordinator is gone; nothing that handles errors may notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Everything that happens, at ticks counted from the run's beginning.

    `builds` says how many ticks a platform's build takes, and whether it ends well. `silent` are hosts that answer
    nothing from one tick to another, `wiped` those that lose all they have, `bad_pushes` the pushes (counted over all)
    that break off. `deaths` are the steps each coordinator has, `pauses` the ticks until the next one comes; the one
    after the last death lives. `frozen`: a dead one is only stopped, and wakes up while the next one drives.
    """

    builds: Mapping[Platform, tuple[int, bool]]
    hosts: Mapping[str, int]
    tags: tuple[str, ...] = ("1",)
    silent: tuple[tuple[str, int, int], ...] = ()
    wiped: tuple[tuple[str, int], ...] = ()
    bad_pushes: frozenset[int] = frozenset()
    others_move_a_tag_at: int | None = None
    cancel_at: int | None = None
    fail_fast: bool = False
    deaths: tuple[int, ...] = ()
    pauses: tuple[int, ...] = ()
    frozen: bool = False
    late: tuple[tuple[int, AttemptEvent], ...] = ()

    @property
    def is_calm(self) -> bool:
        """Whether only coordinators die, and nobody else does anything unforeseen."""
        return (
            not (self.silent or self.wiped or self.bad_pushes) and self.others_move_a_tag_at is self.cancel_at is None
        )


@dataclass(slots=True)
class SimulatedJob:
    """`ends_at` is None before it is started."""

    platform: Platform
    ends_at: int | None = None
    cancelled: bool = False


class Life:
    """One coordinator: dies after `steps` of them, or never."""

    def __init__(self, world: World, steps: int | None) -> None:
        self.world = world
        self.steps = steps
        self.dead = False

    def alive(self) -> None:
        if self.dead:
            raise CrashError

    def step(self) -> None:
        self.alive()
        self.world.tick()
        if self.steps is not None:
            self.steps -= 1
            if self.steps <= 0:
                self.dead = True
                raise CrashError

    async def pause(self) -> None:
        self.step()
        await asyncio.sleep(0)
        self.alive()


class World:
    """Hosts, the registry, and what has to be true of them at every moment."""

    def __init__(self, scenario: Scenario, path: Path) -> None:
        self.scenario = scenario
        self.path = path
        self.time = 0
        self.jobs: dict[str, dict[str, SimulatedJob]] = {host: {} for host in scenario.hosts}
        self.manifests: dict[str, Manifest] = {}
        self.tags: dict[str, str] = dict.fromkeys(scenario.tags, OLD.digest)
        self.manifests |= {one.digest: one for one in (OLD, OTHERS)}
        self.started: Counter[str] = Counter()
        self.harmed: Counter[str] = Counter()
        self.pushes = 0
        self.store: Store | None = None
        self.target = Target(
            name="default",
            context="/src",
            dockerfile="/src/Dockerfile",
            tags=tuple(REPOSITORY.with_tag(tag) for tag in scenario.tags),
            platforms=tuple(scenario.builds),
        )

    def clock(self) -> float:
        return float(self.time)

    def tick(self) -> None:
        self.time += 1
        assert self.time < _LONGEST, "the run does not end"
        for host, at in self.scenario.wiped:
            if at == self.time:
                self.jobs[host].clear()
                self.harmed[host] += 1
        if self.time == self.scenario.others_move_a_tag_at:
            self.tags[self.scenario.tags[0]] = OTHERS.digest

    def is_silent(self, host: str) -> bool:
        silent = any(name == host and since <= self.time < until for name, since, until in self.scenario.silent)
        self.harmed[host] += silent
        return silent

    def job(self, host: str, name: str) -> SimulatedJob:
        if name not in self.jobs[host]:
            raise LostError(f"{host} does not know {name}", code="unknown_job")
        return self.jobs[host][name]

    def put(self, tag: str, manifest: Manifest) -> None:
        """A tag the user asked for moves only when every platform is verified, and to an index that is there."""
        if tag in self.tags:
            assert self.store is not None
            run = self.store.run(RUN)
            assert run.target_state is TargetState.TAGGING
            assert {job.state for job in run.jobs} == {JobState.VERIFIED}
            assert manifest.digest == run.index_digest == index_of(run).digest
            for job in run.jobs:
                assert set(from_stored(job.child).digests) <= self.manifests.keys()
        self.tags[tag] = manifest.digest

    async def go(self) -> Run:
        """The run, through all its coordinators, to its end."""
        frozen: list[Store] = []
        for number, steps in enumerate((*self.scenario.deaths, None)):
            with contextlib.ExitStack() as stack:
                store = Store(self.path, self.clock)
                if not (self.scenario.frozen and steps is not None):
                    stack.enter_context(store)
                else:
                    frozen.append(store)
                if await Coordinator(self, store, Life(self, steps), number, frozen).live():
                    break
            for _ in range(self.scenario.pauses[number]):
                self.tick()
        for sleeper in frozen:
            refused(sleeper)
            sleeper.__exit__()
        with Store(self.path, self.clock) as store:
            return store.run(RUN)


def refused(sleeper: Store) -> None:
    """One that wakes up when another has taken over changes nothing of the run."""
    run = sleeper.run(RUN)
    writes = [lambda: sleeper.finish(RUN, 0), lambda: sleeper.tag_moved(RUN, "x"), lambda: sleeper.release(RUN)]
    writes += [lambda job=job: sleeper.move_job(job.id, states.JobEvent.CANCEL) for job in run.jobs]
    for write in writes:
        with pytest.raises(HeldError) as error:
            write()
        assert error.value.code == "taken"
    assert sleeper.run(RUN) == run


class Coordinator:
    """One life of the shell."""

    def __init__(self, world: World, store: Store, life: Life, number: int, frozen: list[Store]) -> None:
        self.world = world
        self.store = world.store = store
        self.life = life
        self.frozen = [one for one in frozen if one is not store]
        self.driver = Driver(token=f"t{number}", holder="u@m", pid=number, started="", boot_id="")
        self.registry = SimulatedRegistry(world, life)
        self.push_losses: Counter[int] = Counter()
        self.under_way: set[object] = set()
        self.late = list(world.scenario.late)
        self.loom = SimpleNamespace(
            run_id=RUN,
            store=store,
            request=BuildRequest(target=world.target),
            registries=SimpleNamespace(registry=self._registry),
            farm=SimpleNamespace(client=self._client),
            emit=[].append,
        )
        self.loom.find = self.find

    async def live(self) -> bool:
        """Whether the run has come to its end; False where the coordinator has died before."""
        try:
            with self._mortal():
                self._begin()
                if self.store.run(RUN).finished_at is None:
                    await self._drive()
        except CrashError:
            return False
        return True

    @contextlib.contextmanager
    def _mortal(self) -> Iterator[None]:
        """A dead coordinator commits nothing, and one may die right after each commit."""
        commit = self.store._db.change

        @contextlib.contextmanager
        def change() -> Iterator[None]:
            self.life.alive()
            with commit():
                yield
            self.life.step()

        self.store._db.change = change
        try:
            yield
        finally:
            self.store._db.change = commit

    def _begin(self) -> None:
        if not self.store.runs():
            request = {**BuildRequest(target=self.world.target, fail_fast=self.world.scenario.fail_fast).to_json()}
            build_ids = {platform: sha256(str(platform).encode())[7:] for platform in self.world.scenario.builds}
            self.store.create_run(RUN, request, build_ids, driver=self.driver, inputs={}, inventory="")
        elif self.store.run(RUN).finished_at is None:
            self.store.drive(RUN, self.driver, lambda _: False)
            for sleeper in self.frozen:
                refused(sleeper)

    async def _drive(self) -> None:
        hosts = self.world.scenario.hosts
        able = {platform: [Candidate(host, Mode.NATIVE) for host in hosts] for platform in self.world.scenario.builds}
        work = asyncio.ensure_future(drive(RUN, self.store, self._perform, able, hosts, self.loom.emit))
        try:
            code = await self._watch(work)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        if self.store.run(RUN).target_state is TargetState.PUBLISHED:
            # The wish to cancel came when nothing was left to be cancelled.
            code = 0
        if code:
            await stop(self.loom)
        self.store.finish(RUN, code)

    async def _watch(self, work: asyncio.Future[Run]) -> int:
        """The exit code. Hears of a wish to cancel, and of reports that come too late, between any two steps."""
        cancel_at = self.world.scenario.cancel_at
        while not work.done():
            if cancel_at is not None and self.world.time >= cancel_at and not self.store.cancel_asked(RUN):
                self.store.ask_cancel(RUN)
            if self.store.cancel_asked(RUN):
                return 130
            while self.late and self.late[0][0] <= self.world.time:
                self._report_late(self.late.pop(0)[1])
            await asyncio.sleep(0)
        try:
            run = work.result()
        except ArchloomError as error:
            return error.exit_code
        return 0 if run.target_state is TargetState.PUBLISHED else 4

    def _report_late(self, event: AttemptEvent) -> None:
        """What is said of an attempt that has ended or won is dropped."""
        run = self.store.run(RUN)
        for job in run.jobs:
            for attempt in job.attempts:
                if states.ended(attempt.state) or job.state is JobState.VERIFIED:
                    assert self.store.move_attempt(attempt.id, event, code="late") == attempt.state
                    assert not self.store.verify_job(job.id, {}, winner=attempt.id)
        assert self.store.run(RUN) == run

    def find(self, attempt_id: int) -> tuple[Run, Job, Attempt]:
        run = self.store.run(RUN)
        return next((run, job, one) for job in run.jobs for one in job.attempts if one.id == attempt_id)

    async def _perform(self, action) -> None:
        key = getattr(action, "attempt_id", RUN)
        assert key not in self.under_way, f"{action} while another action on it is under way"
        self.under_way.add(key)
        try:
            await self._do(action)
        except LostError as error:
            self.store.move_attempt(action.attempt_id, AttemptEvent.LOSE, code=error.code, message=error.message)
        finally:
            self.under_way.discard(key)

    async def _do(self, action) -> None:
        match action:
            case Send(attempt_id):
                await self._send(attempt_id)
            case Build(attempt_id):
                await self._build(attempt_id)
            case Push(attempt_id):
                await self._push(attempt_id)
            case Verify(attempt_id):
                await self._verify(attempt_id)
            case Cancel(attempt_id):
                await cancel(self.loom, attempt_id)
            case Publish():
                await publish(self.loom, RUN)

    async def _send(self, attempt_id: int) -> None:
        _, job, attempt = self.find(attempt_id)
        if attempt.state is AttemptState.ASSIGNED:
            self.store.move_attempt(attempt_id, AttemptEvent.SEND)
        await (await self._client(attempt.host)).create(agent_job(RUN, job, attempt), job.platform)
        self.store.move_attempt(attempt_id, AttemptEvent.SENT)

    async def _build(self, attempt_id: int) -> None:
        _, job, attempt = self.find(attempt_id)
        name = agent_job(RUN, job, attempt)
        await (await self._client(attempt.host)).start(name)
        while (ended := await (await self._client(attempt.host)).ended(name)) is None:
            pass
        self.store.move_attempt(attempt_id, ended, code="" if ended is AttemptEvent.BUILT else "build")

    async def _push(self, attempt_id: int) -> None:
        _, job, attempt = self.find(attempt_id)
        if attempt.state is AttemptState.BUILT:
            self.store.move_attempt(attempt_id, AttemptEvent.PUSH)
        client = await self._client(attempt.host)
        await client.built(agent_job(RUN, job, attempt))
        self.world.pushes += 1
        broke_off = self.world.pushes in self.world.scenario.bad_pushes
        image = image_of(job.platform)
        await self.registry.put_manifest("app", image.digest, image.raw, image.media_type)
        if broke_off:
            self.push_losses[attempt_id] += 1
            if self.push_losses[attempt_id] == _MOST_PUSHES:
                raise LostError("it broke off", code="push")
            self.store.move_attempt(attempt_id, AttemptEvent.PUSH_LOST)
        else:
            self.store.move_attempt(attempt_id, AttemptEvent.PUSHED, digest=image.digest)

    async def _verify(self, attempt_id: int) -> None:
        _, job, attempt = self.find(attempt_id)
        image = await self.registry.get_manifest("app", attempt.digest)
        pin = pin_tag(job.build_id, job.platform)
        await set_tag(self.registry, "app", pin, image)
        child = Child(platform=job.platform, descriptor=descriptor(job.platform, image))
        stored = StoredChild(child=child, config_digest="", pin=pin, mode=attempt.mode, host=attempt.host)
        assert self.store.verify_job(job.id, stored.to_json(), winner=attempt_id)
        with contextlib.suppress(LostError):
            await (await self._client(attempt.host)).forget(agent_job(RUN, job, attempt))

    async def _client(self, host: str) -> SimulatedClient:
        for _ in range(_PATIENCE):
            await self.life.pause()
            if not self.world.is_silent(host):
                return SimulatedClient(self.world, self.life, host)
        raise LostError(f"{host} does not answer", code="connection")

    async def _registry(self, _: str) -> SimulatedRegistry:
        return self.registry


def image_of(platform: Platform) -> Manifest:
    """What a build of the platform gives, wherever and whenever."""
    raw = f"image for {platform}".encode()
    return Manifest(raw=raw, media_type=OCI_MANIFEST, digest=sha256(raw))


def descriptor(platform: Platform, image: Manifest) -> Descriptor:
    found = image.descriptor
    words = {"os": platform.os, "architecture": platform.architecture, "variant": platform.variant}
    return Descriptor(
        media_type=found.media_type,
        digest=found.digest,
        size=found.size,
        extra={"platform": {key: word for key, word in words.items() if word}},
    )


@dataclass(slots=True)
class SimulatedClient:
    """The agent of one host, that was reached just now."""

    world: World
    life: Life
    host: str
    jobs: dict[str, SimulatedJob] = field(init=False)

    def __post_init__(self) -> None:
        self.jobs = self.world.jobs[self.host]

    async def create(self, name: str, platform: Platform) -> None:
        self.jobs.setdefault(name, SimulatedJob(platform))
        await self.life.pause()

    async def start(self, name: str) -> None:
        job = self.world.job(self.host, name)
        if job.ends_at is None:
            job.ends_at = self.world.time + self.world.scenario.builds[job.platform][0]
            self.world.started[name] += 1
        await self.life.pause()

    async def ended(self, name: str) -> AttemptEvent | None:
        """How the job ended, None while it runs."""
        await self.life.pause()
        job = self.world.job(self.host, name)
        assert job.ends_at is not None
        if job.cancelled:
            return AttemptEvent.CANCEL
        if self.world.time < job.ends_at:
            return None
        return AttemptEvent.BUILT if self.world.scenario.builds[job.platform][1] else AttemptEvent.FAIL

    async def built(self, name: str) -> None:
        await self.life.pause()
        job = self.world.job(self.host, name)
        assert job.ends_at is not None
        assert job.ends_at <= self.world.time

    async def cancel(self, name: str) -> None:
        if name in self.jobs:
            self.jobs[name].cancelled = True
        await self.life.pause()

    async def forget(self, name: str) -> None:
        self.jobs.pop(name, None)
        await self.life.pause()


@dataclass(slots=True)
class SimulatedRegistry:
    """One repository of manifests."""

    world: World
    life: Life

    async def head_manifest(self, repository: str, reference: str) -> Manifest | None:
        assert repository == REPOSITORY.repository
        await self.life.pause()
        return self.world.manifests.get(reference if is_digest(reference) else self.world.tags.get(reference, ""))

    async def get_manifest(self, repository: str, reference: str) -> Manifest:
        found = await self.head_manifest(repository, reference)
        assert found is not None
        return found

    async def put_manifest(self, repository: str, reference: str, raw: bytes, media_type: str) -> None:
        assert repository == REPOSITORY.repository
        await self.life.pause()
        manifest = Manifest(raw=raw, media_type=media_type, digest=sha256(raw))
        self.world.manifests[manifest.digest] = manifest
        if not is_digest(reference):
            self.world.put(reference, manifest)
        await self.life.pause()
