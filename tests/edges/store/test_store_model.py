"""The store against a plain model of it: whatever coordinators do in whatever order, both say the same."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from coordinator.domain.image.platforms import Mode
from coordinator.domain.run import states
from coordinator.domain.run.lease import Driver, Lease
from coordinator.domain.run.model import Attempt, Job, Run
from coordinator.domain.run.states import (
    AttemptEvent,
    AttemptState,
    ForbiddenTransitionError,
    JobEvent,
    JobState,
    TargetEvent,
)
from coordinator.errors import ArchloomError, DrivenElsewhereError, UsageError
from coordinator.store.sqlite import Store
from tests.edges.store.store_bed import AMD64, ARM64, CHILD, OURS, PRIVATE, SHARED, Make

TOKENS = st.sampled_from(["t1", "t2"])
# Which run, and which of the coordinators.
RUNS, SEATS, JOBS = st.integers(0, 9), st.integers(0, 1), st.integers(0, 1)
a_run_is_there = precondition(lambda machine: machine.models)


def driver(token: str) -> Driver:
    return replace(OURS, token=token)


@dataclass
class Model:
    """What is stored of one run, how many events it has told, and which attempt has won each job."""

    run: Run
    told: int = 1
    winners: dict[int, int] = field(default_factory=dict)

    def set_job(self, job: Job) -> None:
        self.run = replace(self.run, jobs=tuple(job if one.id == job.id else one for one in self.run.jobs))

    def set_attempt(self, attempt: Attempt) -> None:
        job = self.run.job(attempt.job_id)
        self.set_job(replace(job, attempts=tuple(attempt if one.id == attempt.id else one for one in job.attempts)))


class Coordinators(RuleBasedStateMachine):
    """Two that share a store, or one alone. `make` opens a store in a folder, as `store_bed` has it."""

    make: Make
    shared: bool

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.alive: bool | None = True
        self.names = (f"run{number}" for number in count())
        self.models: dict[str, Model] = {}
        self.folder = tempfile.TemporaryDirectory()
        self.seats = [self._open() for _ in range(1 + self.shared)]
        # The tokens by which each drives runs.
        self.held: list[dict[str, str]] = [{} for _ in self.seats]

    def teardown(self) -> None:
        for store in self.seats:
            store.close()
        self.folder.cleanup()

    def _open(self) -> Store:
        return type(self).make(Path(self.folder.name), lambda: self.now, lambda _: self.alive)

    def _pick(self, pick: int, seat: int) -> tuple[Store, Model, bool]:
        """A store, what the model knows of a run, and whether this coordinator drives it."""
        name = list(self.models)[pick % len(self.models)]
        model, seat = self.models[name], seat % len(self.seats)
        lease = model.run.lease
        return self.seats[seat], model, lease is not None and self.held[seat].get(name) == lease.driver.token

    def _expect(self, error: type[Exception] | None, action: Callable[[], object]) -> object:
        """What the action returns; None where it raises what it should."""
        if error is None:
            return action()
        with pytest.raises(error):
            action()
        return None

    def _step(self, model: Model, held: bool, after: object, action: Callable[[], object]) -> bool:  # noqa: FBT001
        """Whether a step to `after` was taken, None being one the tables do not have."""
        error = DrivenElsewhereError if not held else ForbiddenTransitionError if after is None else None
        got = self._expect(error, action)
        assert error is not None or got == after
        model.told += error is None
        return error is None

    @rule(seconds=st.sampled_from([1.0, 20.0, 40.0, -40.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda machine: machine.shared)
    @rule(seat=SEATS)
    def a_coordinator_dies(self, seat: int) -> None:
        self.seats[seat].close()
        self.seats[seat], self.held[seat] = self._open(), {}

    @rule(seat=SEATS, token=TOKENS)
    def create(self, seat: int, token: str) -> None:
        seat, name = seat % len(self.seats), next(self.names)
        build_ids = {AMD64: "a", ARM64: "b"}
        run = self.seats[seat].create_run(
            name, {"tags": ["app:1"]}, build_ids, driver=driver(token), inputs={}, inventory=""
        )
        assert run.lease == Lease(driver=driver(token), beat_at=self.now)
        self.models[name] = Model(run)
        self.held[seat][name] = token

    @a_run_is_there
    @rule(pick=RUNS, seat=SEATS, token=TOKENS, alive=st.sampled_from([True, False, None]))
    def drive(self, pick: int, seat: int, token: str, alive: bool | None) -> None:  # noqa: FBT001
        store, model, _ = self._pick(pick, seat)
        self.alive, lease, error = alive, model.run.lease, None
        if model.run.finished_at is not None:
            error = UsageError
        elif lease is not None and lease.driver.token != token and not lease.is_stale(self.now, alive):
            error = DrivenElsewhereError
        self._expect(error, lambda: store.take_lease(model.run.id, driver(token)))
        if error is None:
            model.run = replace(model.run, lease=Lease(driver=driver(token), beat_at=self.now))
            model.told += 1
            self.held[seat % len(self.seats)][model.run.id] = token

    @a_run_is_there
    @rule(pick=RUNS, seat=SEATS)
    def beat(self, pick: int, seat: int) -> None:
        store, model, held = self._pick(pick, seat)
        self._expect(None if held else DrivenElsewhereError, lambda: store.beat(model.run.id))
        if held:
            model.run = replace(model.run, lease=replace(model.run.lease, beat_at=self.now))

    @a_run_is_there
    @rule(pick=RUNS, seat=SEATS, end=st.sampled_from([None, 0, 4]))
    def leave(self, pick: int, seat: int, end: int | None) -> None:
        store, model, held = self._pick(pick, seat)
        name = model.run.id
        error: type[Exception] | None = None if held else DrivenElsewhereError
        if held and end is not None and not states.ended(model.run.target_state):
            error = ArchloomError
        self._expect(error, lambda: store.release(name) if end is None else store.finish(name, end))
        if error is None:
            model.told += 1
            finished_at = None if end is None else self.now
            model.run = replace(model.run, lease=None, finished_at=finished_at, exit_code=end)

    @a_run_is_there
    @rule(pick=RUNS, seat=SEATS)
    def ask_cancel(self, pick: int, seat: int) -> None:
        store, model, _ = self._pick(pick, seat)
        store.ask_cancel(model.run.id)
        if model.run.finished_at is None and not model.run.cancel_asked:
            model.run = replace(model.run, cancel_asked=True)
            model.told += 1

    @a_run_is_there
    @rule(pick=RUNS, seat=SEATS, which=JOBS, host=st.sampled_from(["pi3", "pi4", "pi5"]))
    def assign(self, pick: int, seat: int, which: int, host: str) -> None:
        store, model, held = self._pick(pick, seat)
        job = model.run.jobs[which]
        attempt = self._expect(_assigned_badly(job, host, held), lambda: store.assign(job.id, host, Mode.NATIVE))
        if isinstance(attempt, Attempt):
            assert (attempt.number, attempt.state) == (len(job.attempts) + 1, AttemptState.ASSIGNED)
            model.set_job(replace(job, state=JobState.ACTIVE, attempts=(*job.attempts, attempt)))
            model.told += 1

    @a_run_is_there
    @rule(pick=RUNS, seat=SEATS, which=JOBS, back=st.integers(1, 2), data=st.data())
    def move_attempt(self, pick: int, seat: int, which: int, back: int, data: st.DataObject) -> None:
        store, model, held = self._pick(pick, seat)
        attempts = model.run.jobs[which].attempts
        if len(attempts) < back:
            return
        attempt = attempts[-back]
        # Mostly a step the table has, so that the ends are reached.
        event = data.draw(st.sampled_from([*states.ATTEMPT[attempt.state], *AttemptEvent]))
        final = states.ended(attempt.state) or model.winners.get(attempt.job_id) == attempt.id
        after = attempt.state if final else states.ATTEMPT[attempt.state].get(event)
        taken = self._step(model, held, after, lambda: store.move_attempt(attempt.id, event, code="c", digest="d"))
        if taken and after is not None and not final:
            ended_at = self.now if states.ended(after) else None
            model.set_attempt(replace(attempt, state=after, code="c", digest="d", ended_at=ended_at))

    @a_run_is_there
    @rule(pick=RUNS, seat=SEATS, which=JOBS, event=st.sampled_from(JobEvent))
    def move_job(self, pick: int, seat: int, which: int, event: JobEvent) -> None:
        store, model, held = self._pick(pick, seat)
        job = model.run.jobs[which]
        if event in {JobEvent.ASSIGN, JobEvent.VERIFY, JobEvent.REUSE}:
            return  # by `assign` and `verify_job`, which know the attempt and the child
        after = job.state if states.ended(job.state) else states.JOB[job.state].get(event)
        if self._step(model, held, after, lambda: store.move_job(job.id, event)):
            model.set_job(replace(job, state=after))

    @a_run_is_there
    @rule(pick=RUNS, seat=SEATS, which=JOBS, back=st.integers(0, 2))
    def verify_job(self, pick: int, seat: int, which: int, back: int) -> None:
        store, model, held = self._pick(pick, seat)
        job = model.run.jobs[which]
        if len(job.attempts) < back:
            return
        winner = job.attempts[-back] if back else None
        after = _verdict(job, winner)
        winner_id = winner.id if winner else None
        taken = self._step(model, held, after, lambda: store.verify_job(job.id, CHILD, winner=winner_id))
        if taken and after:
            model.set_job(replace(job, state=JobState.VERIFIED, child=CHILD, reused=winner is None))
            if winner is not None:
                model.winners[job.id] = winner.id
                model.set_attempt(replace(winner, won=True))

    @a_run_is_there
    @rule(pick=RUNS, seat=SEATS, event=st.sampled_from(TargetEvent))
    def move_target(self, pick: int, seat: int, event: TargetEvent) -> None:
        store, model, held = self._pick(pick, seat)
        after = states.TARGET[model.run.target_state].get(event)
        digest = "sha256:i" if event is TargetEvent.INDEX else ""
        if self._step(model, held, after, lambda: store.move_target(model.run.id, event, digest=digest)):
            model.run = replace(model.run, target_state=after, index_digest=digest or model.run.index_digest)

    @a_run_is_there
    @rule(pick=RUNS, seat=SEATS)
    def prune(self, pick: int, seat: int) -> None:
        store, model, _ = self._pick(pick, seat)
        name = model.run.id
        deleted = () if model.run.finished_at is None else (name,)
        assert store.prune([name]) == deleted
        if deleted:
            del self.models[name]

    @invariant()
    def both_say_the_same(self) -> None:
        runs = [model.run for model in self.models.values()]
        unfinished = [run for run in runs if run.finished_at is None]
        for store in self.seats:
            assert store.runs(limit=None) == tuple(reversed(runs))
            assert store.newest_unfinished() == (unfinished[-1] if unfinished else None)
            assert [store.previous(run) for run in runs] == [None, *runs][: len(runs)]
            assert [len(store.events(run.id)) for run in runs] == [model.told for model in self.models.values()]


def _assigned_badly(job: Job, host: str, held: bool) -> type[Exception] | None:  # noqa: FBT001
    """The error of an assignment: a job has two live attempts at most, and only one on a host."""
    if not held:
        return DrivenElsewhereError
    if states.ended(job.state):
        return ForbiddenTransitionError
    return ArchloomError if len(job.live) > 1 or host in {attempt.host for attempt in job.live} else None


def _verdict(job: Job, winner: Attempt | None) -> bool | None:
    """Whether a verdict stands; None where the tables have no such step."""
    if states.ended(job.state) or (winner is not None and states.ended(winner.state)):
        return False
    if winner is None:
        return True if job.state is JobState.PENDING else None
    return True if job.state is JobState.ACTIVE and winner.state is AttemptState.PUSHED else None


def _machine(name: str, make: Make, *, shared: bool) -> type:
    machine = type(name, (Coordinators,), {"make": staticmethod(make), "shared": shared})
    case: type = machine.TestCase
    case.settings = settings(max_examples=30, stateful_step_count=40)
    return case


TestFile = _machine("File", SHARED["file"], shared=True)
TestMemory = _machine("Memory", PRIVATE["memory"], shared=False)
