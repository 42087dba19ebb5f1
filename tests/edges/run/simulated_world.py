"""Hosts and a registry that outlive the coordinators, and what each coordinator may do before it dies.

Theory of operation. A *step* is a commit to the store or one thing done to a host or the registry; each lets the world
go on by one tick, and each may be a coordinator's last. A dead one can neither write nor do anything more, whatever its
coroutines still try.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.domain.image.descriptors import OCI_MANIFEST, Descriptor, Manifest, sha256
from coordinator.domain.image.platforms import Platform
from coordinator.domain.image.references import Reference, is_digest
from coordinator.domain.image.verified_child import from_stored
from coordinator.domain.run.model import Attempt
from coordinator.domain.run.states import AttemptEvent, JobState, TargetState
from coordinator.domain.targets.target import Target
from coordinator.errors import LostError
from coordinator.publish.publish import index_of
from coordinator.store.sqlite import Store

RUN = "r"
REPOSITORY = Reference("nas.lan", "app")
OLD = Manifest(raw=b"old", media_type=OCI_MANIFEST, digest=sha256(b"old"))
NEWER = Manifest(raw=b"newer", media_type=OCI_MANIFEST, digest=sha256(b"newer"))
OTHERS = Manifest(raw=b"others", media_type=OCI_MANIFEST, digest=sha256(b"others"))
# A run that takes longer goes round in circles.
_LONGEST = 5000


class CrashError(BaseException):
    """The coordinator is gone; nothing that handles errors may notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Everything that happens, at ticks counted from the run's beginning.

    `builds` says how many ticks a platform's build takes, and whether it ends well. `silent` are hosts that answer
    nothing from one tick to another, `wiped` those that lose all they have, `bad_pushes` the pushes (counted over all)
    that break off, `registry_gone_at` those that are given up because the registry fails. `deaths` are the steps each
    coordinator has, `pauses` the ticks until the next one comes; the one
    after the last death lives. `frozen`: they do not die but fall asleep, and wake up when the run has ended without
    them and a later one has moved its tags.
    """

    builds: Mapping[Platform, tuple[int, bool]]
    hosts: Mapping[str, int]
    tags: tuple[str, ...] = ("1",)
    silent: tuple[tuple[str, int, int], ...] = ()
    wiped: tuple[tuple[str, int], ...] = ()
    bad_pushes: frozenset[int] = frozenset()
    registry_gone_at: frozenset[int] = frozenset()
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
            not (self.silent or self.wiped or self.bad_pushes or self.registry_gone_at)
            and self.others_move_a_tag_at is self.cancel_at is None
        )


@dataclass(slots=True)
class SimulatedJob:
    """`ends_at` is None before it is started."""

    platform: Platform
    ends_at: int | None = None
    cancelled: bool = False


class Life:
    """One coordinator: dies after `steps` of them, or falls asleep then, or neither."""

    def __init__(self, world: World, steps: int | None) -> None:
        self.world = world
        self.steps = steps
        self.dead = False
        self.asleep = False

    def alive(self) -> None:
        if self.dead:
            raise CrashError

    def step(self) -> None:
        self.alive()
        self.world.tick()
        if self.steps is not None:
            self.steps -= 1
            if self.steps <= 0 and self.world.scenario.frozen:
                self.asleep = True
            elif self.steps <= 0:
                self.dead = True
                raise CrashError

    async def pause(self) -> None:
        self.step()
        await self.rest()

    async def rest(self) -> None:
        """A moment for the others; for as long as it takes where it is asleep."""
        await asyncio.sleep(0)
        if self.asleep:
            await self.world.awake.wait()
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
        self.manifests |= {one.digest: one for one in (OLD, NEWER, OTHERS)}
        self.started: Counter[str] = Counter()
        self.harmed: Counter[str] = Counter()
        self.pushes = 0
        self.awake = asyncio.Event()
        # What a coordinator did that none may: it must not go under in how that coordinator ends.
        self.wrong: list[str] = []
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
        if self.time == self.scenario.others_move_a_tag_at and not self.awake.is_set():
            self.tags[self.scenario.tags[0]] = OTHERS.digest

    def is_silent(self, host: str) -> bool:
        silent = any(name == host and since <= self.time < until for name, since, until in self.scenario.silent)
        self.harmed[host] += silent
        return silent

    def job(self, host: str, name: str) -> SimulatedJob:
        if name not in self.jobs[host]:
            raise LostError(f"{host} does not know {name}", code="unknown_job")
        return self.jobs[host][name]

    def holds(self, attempt: Attempt) -> bool:
        """Whether the host has the image of this attempt, unless it was wiped."""
        return attempt.agent_job in self.jobs[attempt.host] or bool(self.harmed[attempt.host])

    def supersede(self) -> None:
        """The run is over, and a later one has moved every tag."""
        self.tags_at_the_end = dict(self.tags)
        self.tags |= dict.fromkeys(self.scenario.tags, NEWER.digest)

    def put(self, tag: str, manifest: Manifest) -> None:
        """A tag the user asked for moves only when every platform is verified, and to an index that is there."""
        if tag in self.scenario.tags:
            assert self.store is not None
            run = self.store.run(RUN)
            assert run.target_state is TargetState.TAGGING
            assert {job.state for job in run.jobs} == {JobState.VERIFIED}
            assert manifest.digest == run.index_digest == index_of(run).digest
            for job in run.jobs:
                assert set(from_stored(job.child).digests) <= self.manifests.keys()
        self.tags[tag] = manifest.digest


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
            self.world.started[name] += not self.world.awake.is_set()
        await self.life.pause()

    async def ended(self, name: str) -> AttemptEvent | None:
        """How the job ended, None while it runs."""
        await self.life.pause()
        job = self._begun(name)
        if job.cancelled:
            return AttemptEvent.CANCEL
        if self.world.time < job.ends_at:
            return None
        return AttemptEvent.BUILT if self.world.scenario.builds[job.platform][1] else AttemptEvent.FAIL

    async def built(self, name: str) -> None:
        await self.life.pause()
        job = self._begun(name)
        if job.ends_at > self.world.time:
            assert self.world.awake.is_set()
            raise LostError(f"{name} has built nothing", code="not_built")

    def _begun(self, name: str) -> SimulatedJob:
        job = self.world.job(self.host, name)
        if job.ends_at is None:
            # Another one that woke up too late has made it anew: the next run sweeps it away.
            assert self.world.awake.is_set()
            raise LostError(f"{name} was never started", code="unknown_job")
        return job

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
        found = self.world.manifests.get(reference if is_digest(reference) else self.world.tags.get(reference, ""))
        # An answer may be old when it is read.
        await self.life.pause()
        return found

    async def get_manifest(self, repository: str, reference: str) -> Manifest:
        found = await self.head_manifest(repository, reference)
        assert found is not None
        return found

    async def claim_tag(self, repository: str, tag: str, manifest: Manifest) -> str:
        if await self.head_manifest(repository, tag) is None:
            await self.put_manifest(repository, tag, manifest.raw, manifest.media_type)
        found = await self.head_manifest(repository, tag)
        assert found is not None
        return found.digest

    async def read_back(self, repository: str, tag: str, before: str) -> str:  # noqa: ARG002 - nothing lags here
        found = await self.head_manifest(repository, tag)
        return found.digest if found else ""

    async def put_manifest(self, repository: str, reference: str, raw: bytes, media_type: str) -> None:
        assert repository == REPOSITORY.repository
        manifest = Manifest(raw=raw, media_type=media_type, digest=sha256(raw))
        self.world.manifests[manifest.digest] = manifest
        if not is_digest(reference):
            self.world.put(reference, manifest)
        await self.life.pause()
