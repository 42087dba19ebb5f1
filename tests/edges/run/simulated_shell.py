"""A shell without machines: coordinators that die anywhere, and the next ones that go on from the store.

Only the decisions, the loop, the store, publishing and stopping are the real ones; the world is simulated.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from coordinator.domain.hosts.inventory import RegistrySettings
from coordinator.domain.image.descriptors import sha256
from coordinator.domain.image.index import Child
from coordinator.domain.image.platforms import Mode
from coordinator.domain.image.verified_child import VerifiedChild
from coordinator.domain.inputs.pins import pin_tag
from coordinator.domain.placement.schedule import Candidate
from coordinator.domain.run import states
from coordinator.domain.run.lease import Driver
from coordinator.domain.run.model import Attempt, Job, Run
from coordinator.domain.run.next_actions import Build, Cancel, Publish, Push, Send, Verify
from coordinator.domain.run.retry import pushed_again
from coordinator.domain.run.states import AttemptEvent, AttemptState
from coordinator.domain.targets.request import BuildRequest
from coordinator.errors import DrivenElsewhereError, InterruptedRunError, LostError
from coordinator.publish.publish import Publication, publish
from coordinator.run.context import RunContext
from coordinator.run.driver import PreparedRun, RunResult, drive_to_end
from coordinator.run.held_lease import HeldLease
from coordinator.run.inputs.gather import InputsGone
from coordinator.run.steps.attempt_end import lost
from coordinator.run.steps.cancel import cancel
from coordinator.store.sqlite import Store
from tests.edges.run.fixed_hosts import FixedHosts
from tests.edges.run.simulated_world import (
    RUN,
    CrashError,
    Life,
    SimulatedClient,
    SimulatedRegistry,
    World,
    descriptor,
    image_of,
)

_PATIENCE = 4


async def play(world: World) -> Run:
    """The run, through all its coordinators, to its end; then those that sleep wake up."""
    sleepers: list[tuple[Store, asyncio.Future[bool]]] = []
    with contextlib.ExitStack() as stack:
        for number, steps in enumerate((*world.scenario.deaths, None)):
            store = stack.enter_context(Store(world.path, world.clock, is_alive=lambda _: False))
            life = Life(world, steps)
            frozen = [store for store, _ in sleepers]
            work = asyncio.ensure_future(Coordinator(world, store, life, number, frozen).live())
            while not work.done() and not life.asleep:
                await asyncio.sleep(0)
            if not life.asleep and work.result():
                break
            for _ in range(world.scenario.pauses[number]):
                world.tick()
            sleepers += [(store, work)] if life.asleep else []
        run = store.run(RUN)
        world.supersede()
        world.awake.set()
        await asyncio.gather(*(work for _, work in sleepers))
        for sleeper, _ in sleepers:
            refused(sleeper)
        assert store.run(RUN) == run
        return run


def refused(sleeper: Store) -> None:
    """One that wakes up when another has taken over changes nothing of the run."""
    run = sleeper.run(RUN)
    writes = [lambda: sleeper.finish(RUN, 0), lambda: sleeper.tag_moved(RUN, "x"), lambda: sleeper.release(RUN)]
    writes += [lambda job=job: sleeper.move_job(job.id, states.JobEvent.CANCEL) for job in run.jobs]
    for write in writes:
        with pytest.raises(DrivenElsewhereError) as error:
            write()
        assert error.value.code == "taken"
    assert sleeper.run(RUN) == run


class SimulatedHosts(FixedHosts):
    """Hosts that go away when they do not answer, and come back when they would."""

    def __init__(self, world: World) -> None:
        hosts = world.scenario.hosts
        super().__init__({}, hosts)
        self._world = world
        self._gone: frozenset[str] = frozenset()
        self._offer()

    def miss(self, host: str) -> None:
        if host not in self.away:
            self.away = self.long_away = self.away | {host}
            self.awaited |= {host}
            self.changed.set()

    def give_up(self, host: str) -> None:
        """It is no longer waited for; it may still come back."""
        self.awaited -= {host}
        self._gone |= {host}
        self._offer()

    def look(self) -> None:
        back = {host for host in self.away if not self._world.is_silent(host)}
        if back:
            self.away = self.long_away = self.away - back
            self.awaited -= back
            self._gone -= back
            self._offer()

    def _offer(self) -> None:
        hosts = [Candidate(host, Mode.NATIVE) for host in self.slots if host not in self._gone]
        self.candidates = dict.fromkeys(self._world.scenario.builds, hosts)
        self.changed.set()


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
        self.lease = HeldLease(store, RUN)
        self.hosts = SimulatedHosts(world)
        session = SimpleNamespace(
            env=SimpleNamespace(clock=store._clock, state=Path("nowhere")),
            store=store,
            inventory=SimpleNamespace(registry_patience=0.0),
            registries=SimpleNamespace(
                registry=self._registry,
                settings=lambda host: RegistrySettings(host=host),
                start_over=lambda _: None,
            ),
            farm=SimpleNamespace(client=self._client, hosts={}, hurry=lambda: None),
            emit=[].append,
        )
        self.run = RunContext(
            session=session,
            run_id=RUN,
            lease=self.lease,
            request=BuildRequest(target=world.target),
            inputs_or_gone=InputsGone("simulated"),
            hosts=self.hosts,
        )

    async def live(self) -> bool:
        """Whether the run has come to its end; False where the coordinator has died before."""
        try:
            with self._mortal():
                self._begin()
                if self.store.run(RUN).finished_at is None:
                    await self._drive()
        except CrashError:
            return False
        except DrivenElsewhereError:
            assert self.life.asleep
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
            self.store.take_lease(RUN, self.driver)
            for sleeper in self.frozen:
                refused(sleeper)

    async def _drive(self) -> None:
        work = asyncio.ensure_future(drive_to_end(PreparedRun(context=self.run, began=0.0), self._dispatch))
        await asyncio.sleep(0)  # the run is driven from here on
        try:
            await self._watch(work)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _watch(self, work: asyncio.Future[RunResult]) -> None:
        """Hears of a wish to cancel, and of reports that come too late, between any two steps."""
        cancel_at = self.world.scenario.cancel_at
        while not work.done():
            if cancel_at is not None and self.world.time >= cancel_at and not self.store.cancel_asked(RUN):
                self.store.ask_cancel(RUN)
            if self.lease.end_reason is None and self.store.cancel_asked(RUN):
                self.lease.end_reason = InterruptedRunError("cancelled")
                work.cancel()
            self.hosts.look()
            # The process outlives its run while hosts delete what they have of it.
            while self.late and self.late[0][0] <= self.world.time and self.store.run(RUN).finished_at is None:
                self._report_late(self.late.pop(0)[1])
            await self.life.rest()
        work.result()

    def _report_late(self, event: AttemptEvent) -> None:
        """What is said of an attempt that has ended or won is dropped."""
        run = self.store.run(RUN)
        for job in run.jobs:
            for attempt in job.attempts:
                if not attempt.is_live:
                    assert self.store.move_attempt(attempt.id, event, code="late") == attempt.state
                    assert not self.store.verify_job(job.id, {}, winner=attempt.id)
        assert self.store.run(RUN) == run

    def find(self, attempt_id: int) -> tuple[Run, Job, Attempt]:
        run = self.store.run(RUN)
        return next((run, job, one) for job in run.jobs for one in job.attempts if one.id == attempt_id)

    async def _dispatch(self, action) -> None:
        key = getattr(action, "attempt_id", RUN)
        assert key not in self.under_way, f"{action} while another action on it is under way"
        self.under_way.add(key)
        try:
            await self._do(action)
        except AssertionError as error:
            self.world.wrong.append(f"{action}: {error!r}")
            raise
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
                await cancel(self.run.attempt(attempt_id))
            case Publish():
                await publish(
                    Publication(
                        run_id=RUN,
                        target=self.world.target,
                        store=self.store,
                        registries=self.run.registries,
                        check_lease=self.lease.beat,
                        emit=self.run.emit,
                    )
                )

    async def _send(self, attempt_id: int) -> None:
        _, job, attempt = self.find(attempt_id)
        if attempt.state is AttemptState.ASSIGNED:
            self.store.move_attempt(attempt_id, AttemptEvent.SEND)
        await (await self._client(attempt.host)).create(attempt.agent_job, job.platform)
        self.store.move_attempt(attempt_id, AttemptEvent.SENT)

    async def _build(self, attempt_id: int) -> None:
        attempt = self.find(attempt_id)[2]
        name = attempt.agent_job
        await (await self._client(attempt.host)).start(name)
        while (ended := await (await self._client(attempt.host)).ended(name)) is None:
            pass
        self.store.move_attempt(attempt_id, ended, code="" if ended is AttemptEvent.BUILT else "build")

    async def _push(self, attempt_id: int) -> None:
        _, job, attempt = self.find(attempt_id)
        if attempt.state is AttemptState.BUILT:
            self.store.move_attempt(attempt_id, AttemptEvent.PUSH)
        client = await self._client(attempt.host)
        await client.built(attempt.agent_job)
        self.world.pushes += 1
        broke_off = self.world.pushes in self.world.scenario.bad_pushes
        if self.world.pushes in self.world.scenario.registry_gone_at:
            await lost(self.run.attempt(attempt_id), "registry", "it answers 503")
            return
        image = image_of(job.platform)
        await self.registry.put_manifest("app", image.digest, image.raw, image.media_type)
        if broke_off:
            self.push_losses[attempt_id] += 1
            if not pushed_again("tunnel", self.push_losses[attempt_id], tunnel=True):
                raise LostError("it broke off", code="push")
            self.store.move_attempt(attempt_id, AttemptEvent.PUSH_LOST)
        else:
            self.store.move_attempt(attempt_id, AttemptEvent.PUSHED, digest=image.digest)

    async def _verify(self, attempt_id: int) -> None:
        _, job, attempt = self.find(attempt_id)
        image = await self.registry.get_manifest("app", attempt.digest)
        pin = pin_tag(job.build_id, job.platform, attempt.mode)
        assert await self.registry.claim_tag("app", pin, image) == image.digest
        child = Child(platform=job.platform, descriptor=descriptor(job.platform, image))
        stored = VerifiedChild(child=child, config_digest="", pin=pin, mode=attempt.mode, host=attempt.host)
        assert self.store.verify_job(job.id, stored.to_json(), winner=attempt_id)
        with contextlib.suppress(LostError):
            await (await self._client(attempt.host)).forget(attempt.agent_job)

    async def _client(self, host: str) -> SimulatedClient:
        for _ in range(_PATIENCE):
            await self.life.pause()
            if not self.world.is_silent(host):
                return SimulatedClient(self.world, self.life, host)
            self.hosts.miss(host)
        self.hosts.give_up(host)
        raise LostError(f"{host} does not answer", code="connection")

    async def _registry(self, _: str) -> SimulatedRegistry:
        return self.registry
