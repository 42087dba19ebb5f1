"""The loop over a real store: what it starts, what it waits for, and that a crash changes nothing in the end."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

import pytest

from coordinator.domain.image.platforms import Mode, parse
from coordinator.domain.placement.schedule import Candidate
from coordinator.domain.run.events import Assigned, Skipped, Waiting
from coordinator.domain.run.next_actions import Build, Cancel, Publish, Push, Send, Verify
from coordinator.domain.run.states import AttemptEvent, AttemptState, JobState, TargetEvent, TargetState
from coordinator.run.loop import drive
from coordinator.store.processes import this_driver
from coordinator.store.sqlite import Store
from tests.edges.run.fixed_hosts import FixedHosts

AMD64, ARM64, ARMV7 = parse("linux/amd64"), parse("linux/arm64"), parse("linux/arm/v7")
ABLE = {AMD64: [Candidate("beast", Mode.NATIVE)], ARM64: [Candidate("beast", Mode.EMULATED)]}


class CrashError(Exception):
    """The coordinator is gone."""


class World:
    """Does each action by its transitions alone, as a host that always answers; `crash_at` is the commit it dies at."""

    def __init__(self, store: Store, *, failing: tuple[str, ...] = (), crash_at: int = 0) -> None:
        self.store = store
        self.failing = failing
        self.crash_at = crash_at
        self.commits = 0
        self.done: list[str] = []

    def _commit(self) -> None:
        self.commits += 1
        if self.commits == self.crash_at:
            raise CrashError

    async def __call__(self, action) -> None:
        await asyncio.sleep(0)
        match action:
            case Publish():
                self._publish()
            case Send(attempt_id) | Build(attempt_id) | Push(attempt_id) | Verify(attempt_id):
                self._attempt(action, attempt_id)

    def _attempt(self, action, attempt_id: int) -> None:
        run = self.store.run("r")
        job, attempt = next((j, a) for j in run.jobs for a in j.attempts if a.id == attempt_id)
        match action:
            case Send():
                if attempt.state is AttemptState.ASSIGNED:
                    self.store.move_attempt(attempt_id, AttemptEvent.SEND)
                    self._commit()
                self.store.move_attempt(attempt_id, AttemptEvent.SENT)
            case Build():
                self.done.append(f"build {job.platform}")
                failed = str(job.platform) in self.failing
                self.store.move_attempt(attempt_id, AttemptEvent.FAIL if failed else AttemptEvent.BUILT, code="build")
            case Push():
                if attempt.state is AttemptState.BUILT:
                    self.store.move_attempt(attempt_id, AttemptEvent.PUSH)
                    self._commit()
                self.store.move_attempt(attempt_id, AttemptEvent.PUSHED, digest="sha256:x")
            case Verify():
                self.store.verify_job(job.id, {"digest": attempt.digest}, winner=attempt_id)
        self._commit()

    def _publish(self) -> None:
        steps = {
            TargetState.READY: TargetEvent.INDEX,
            TargetState.INDEXED: TargetEvent.TAG,
            TargetState.TAGGING: TargetEvent.PUBLISH,
        }
        while (state := self.store.run("r").target_state) in steps:
            self.store.move_target("r", steps[state], digest="sha256:i")
            self._commit()


@pytest.fixture
def store(tmp_path: Path):
    ticks = count(1)
    with Store(tmp_path / "archloom.db", lambda: float(next(ticks))) as opened:
        opened.create_run("r", {}, {AMD64: "a", ARM64: "b"}, driver=this_driver("u@m", "t"), inputs={}, inventory="")
        yield opened


async def run_in(world: World, events: list | None = None):
    hosts = FixedHosts(ABLE, {"beast": 1})
    return await drive("r", world.store, world, hosts, (events if events is not None else []).append)


async def test_a_run_goes_from_pending_to_published(store):
    """Each platform is built once, then the target is published."""
    world = World(store)

    run = await run_in(world)

    assert run.target_state is TargetState.PUBLISHED
    assert sorted(world.done) == ["build linux/amd64", "build linux/arm64"]


async def test_one_platform_failing_lets_the_others_finish_and_publishes_nothing(store):
    """The other platform is verified all the same, and the target is incomplete."""
    run = await run_in(World(store, failing=("linux/amd64",)))

    assert [job.state for job in run.jobs] == [JobState.FAILED, JobState.VERIFIED]
    assert run.target_state is TargetState.INCOMPLETE


async def test_a_platform_without_a_host_is_lost_and_waited_for_by_nobody(store):
    """A job nobody can take ends at once."""
    run = await drive("r", store, World(store), FixedHosts({AMD64: ABLE[AMD64]}, {"beast": 1}), [].append)

    assert [job.state for job in run.jobs] == [JobState.VERIFIED, JobState.LOST]


class Stopping(World):
    """linux/amd64 fails once linux/arm64 builds, and that build ends only when it is cancelled."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, failing=("linux/amd64",))
        self.builds = asyncio.Event()
        self.cleared: list[int] = []

    async def __call__(self, action) -> None:
        match action:
            case Build(attempt_id) if attempt_id == 2:
                self.builds.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    self.done.append("left alone")
            case Build():
                await self.builds.wait()
                await super().__call__(action)
            case Cancel(attempt_id):
                self.done.append("cancelled")
                self.store.move_attempt(attempt_id, AttemptEvent.CANCEL)
                await asyncio.sleep(0)
                self.cleared.append(attempt_id)
            case _:
                await super().__call__(action)


async def test_fail_fast_stops_the_others(tmp_path):
    """The work on an attempt is over before its host is told, and the run before that is done; who waits is skipped."""
    able = {**ABLE, ARMV7: [Candidate("beast", Mode.EMULATED), Candidate("full", Mode.EMULATED)]}
    events: list = []
    with Store(tmp_path / "archloom.db", lambda: 1.0) as store:
        build_ids = {AMD64: "a", ARM64: "b", ARMV7: "c"}
        driver = this_driver("u@m", "t")
        store.create_run("r", {"fail_fast": True}, build_ids, driver=driver, inputs={}, inventory="")
        world = Stopping(store)

        run = await drive("r", store, world, FixedHosts(able, {"beast": 2, "full": 0}), events.append)

    assert [job.state for job in run.jobs] == [JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED]
    assert run.target_state is TargetState.INCOMPLETE
    assert world.done == ["build linux/amd64", "left alone", "cancelled"]
    assert world.cleared == [2]
    assert events[-1] == Skipped(ARMV7, "linux/amd64 failed (--fail-fast)")


class InTurn(World):
    """The first build ends only when another job waits for its turn."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.events: list = []
        self.building = 0

    async def __call__(self, action) -> None:
        if isinstance(action, Build):
            self.building += 1
            assert self.building == 1
            async with asyncio.timeout(5):
                while action.attempt_id == 1 and TURN not in self.events:
                    await asyncio.sleep(0)
        await super().__call__(action)
        self.building -= isinstance(action, Build)


TURN = Waiting(ARM64, "beast builds linux/amd64 first")


async def test_a_context_is_sent_while_the_host_builds_another(store):
    """One slot: the second job is sent at once, and builds when the first has."""
    world = InTurn(store)

    run = await run_in(world, world.events)

    assert run.target_state is TargetState.PUBLISHED
    assert world.done == ["build linux/amd64", "build linux/arm64"]
    assert world.events.count(TURN) == 1


async def test_a_job_waits_for_a_host_that_is_away(store):
    """As long as the host is waited for; it is said, and the host gets the job when it is back."""
    hosts, events = FixedHosts(ABLE, {"beast": 1}), []
    hosts.set(away="beast", awaited="beast")
    driving = asyncio.create_task(drive("r", store, World(store), hosts, events.append))
    async with asyncio.timeout(5):
        while len(events) < 2:
            await asyncio.sleep(0)
    reason = "beast does not answer, and no other host is free for it"
    assert events == [Waiting(AMD64, reason), Waiting(ARM64, reason)]

    hosts.set()

    assert (await driving).target_state is TargetState.PUBLISHED


async def test_a_job_is_lost_when_its_host_is_no_longer_waited_for(store):
    hosts = FixedHosts(ABLE, {"beast": 1})
    hosts.set(away="beast", awaited="beast")
    driving = asyncio.create_task(drive("r", store, World(store), hosts, [].append))
    await asyncio.sleep(0)

    hosts.candidates = {}
    hosts.set(away="beast")

    assert [job.state for job in (await driving).jobs] == [JobState.LOST, JobState.LOST]


class Hanging(World):
    """Nothing ends on `beast`; what is cancelled ends."""

    async def __call__(self, action) -> None:
        if isinstance(action, Cancel):
            self.done.append("cancelled")
            self.store.move_attempt(action.attempt_id, AttemptEvent.CANCEL)
            return
        run = self.store.run("r")
        attempts = [one for job in run.jobs for one in job.attempts if one.id == getattr(action, "attempt_id", 0)]
        if isinstance(action, Build) and attempts[0].host == "beast":
            await asyncio.get_running_loop().create_future()
        await super().__call__(action)


async def test_another_host_goes_on_for_one_that_is_away(store):
    """Its first verified result counts; the other attempt is cancelled, and publishing does not wait for that."""
    able = {platform: [Candidate("beast", Mode.NATIVE), Candidate("pi5", Mode.NATIVE)] for platform in (AMD64, ARM64)}
    hosts, events, world = FixedHosts(able, {"beast": 2, "pi5": 0}), [], Hanging(store)
    driving = asyncio.create_task(drive("r", store, world, hosts, events.append))
    async with asyncio.timeout(5):
        while len([one for one in events if isinstance(one, Assigned)]) < 2:
            await asyncio.sleep(0)
        hosts.slots = {"beast": 2, "pi5": 1}
        hosts.set(away="beast", long_away="beast", awaited="beast")
        run = await driving

    assert run.target_state is TargetState.PUBLISHED
    assert [[(one.host, one.state) for one in job.attempts] for job in run.jobs] == [
        [("beast", AttemptState.CANCELLED), ("pi5", AttemptState.PUSHED)]
    ] * 2
    assert [one.reason for one in events if isinstance(one, Assigned)][2:] == [
        "assigned (attempt 2, no answer from beast)"
    ] * 2


@pytest.mark.parametrize("crash_at", range(1, 14))
async def test_a_crash_at_any_commit_changes_nothing_in_the_end(store, crash_at):
    """Driven again, the run ends as it would have, and what was built before the crash is not built again."""
    first = World(store, crash_at=crash_at)
    with pytest.raises(CrashError):
        await run_in(first)

    second = World(store)
    run = await run_in(second)

    assert run.target_state is TargetState.PUBLISHED
    assert sorted(first.done + second.done) == ["build linux/amd64", "build linux/arm64"]


class GivenUp(FixedHosts):
    """A host that is away, whose patience ends while the loop looks: when its candidates are read the second time."""

    def __init__(self) -> None:
        super().__init__({}, {"beast": 1}, away=frozenset({"beast"}), awaited=frozenset({"beast"}))
        self.looks = 0

    @property
    def candidates(self):
        self.looks += 1
        if self.looks == 1:
            return ABLE
        self.awaited = frozenset()
        self.changed.set()
        return ABLE if self.looks == 2 else {}

    @candidates.setter
    def candidates(self, _) -> None:
        pass


async def test_a_host_that_is_given_up_during_a_look_ends_its_jobs_and_not_the_loop(store):
    """No job is left pending: what changes between two questions of one look is seen at the next."""
    run = await drive("r", store, World(store), GivenUp(), [].append)

    assert [job.state for job in run.jobs] == [JobState.LOST, JobState.LOST]
    assert run.target_state is TargetState.INCOMPLETE
