"""The persistent state: runs, jobs, attempts, tags, events and the facts of hosts in one SQLite file.

Every state change follows the tables of `domain.run.states` and is committed, with its event, in one transaction
before the caller acts on it. A run has one driver: a transaction that changes the run fails unless this store still
holds the run's lease. Triggers reject what no program may change (`schema/3.sql`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

from coordinator import deadlines
from coordinator.domain.image.platforms import Mode, Platform, parse
from coordinator.domain.run import states
from coordinator.domain.run.history import (
    AttemptChange,
    HistoryEntry,
    JobChange,
    RunChange,
    RunEnded,
    TagMoved,
    TargetChange,
)
from coordinator.domain.run.job_names import agent_job as job_name
from coordinator.domain.run.job_names import run_of
from coordinator.domain.run.lease import Driver
from coordinator.domain.run.model import Attempt, Run, StoredEvent
from coordinator.domain.run.states import (
    AttemptEvent,
    AttemptState,
    ForbiddenTransitionError,
    JobEvent,
    JobState,
    TargetEvent,
    TargetState,
)
from coordinator.errors import ArchloomError, UsageError
from coordinator.store import rows
from coordinator.store.children import Children
from coordinator.store.database import Database
from coordinator.store.leases import Leases
from coordinator.store.probes import Probes
from coordinator.store.processes import is_alive

# The error for an ambiguous run id names this many runs, the newest.
_MAX_RUNS_NAMED = 5


class Store:
    """One open store; without a path it is private, in memory. `clock` gives epoch seconds; `wall_clock`, by default
    the same, gives those that other processes see, for leases.

    `is_alive` tells whether a driver's process is alive, None for unknown. `patience_s` is how long to wait for a lock
    of another process, in seconds. With `on_loss`, a file that becomes unwritable raises no error: `on_loss` is called
    with it once, and the store continues in memory.
    """

    def __init__(
        self,
        path: Path | None,
        clock: Callable[[], float],
        *,
        wall_clock: Callable[[], float] | None = None,
        is_alive: Callable[[Driver], bool | None] = is_alive,
        patience_s: float = deadlines.STORE_LOCK,
        on_loss: Callable[[ArchloomError], None] | None = None,
    ) -> None:
        self.path = path
        self._clock = clock
        self._db = Database(path, patience_s, on_loss)
        self._leases = Leases(self._db, wall_clock or clock, is_alive, self._tell)
        self.probes = Probes(self._db, clock)
        self.children = Children(self._db, clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def check(self) -> None:
        """Read the whole file. Raises UsageError `corrupt` where it is damaged; a query finds only what it reads."""
        self._db.check()

    def create_run(
        self,
        run_id: str,
        request: Mapping[str, object],
        build_ids: Mapping[Platform, str],
        *,
        driver: Driver,
        inputs: Mapping[str, object],
        inventory: str,
        began: float | None = None,
    ) -> Run:
        """Create a run with one pending job per platform, and the lease of `driver`, in one transaction.

        `began` is when the user's command began, in epoch seconds; by default the run begins now.
        """
        with self._db.change():
            self._db.do(
                "insert_run",
                id=run_id,
                at=self._clock() if began is None else began,
                request=json.dumps(request),
                inputs=json.dumps(inputs),
                inventory=inventory,
            )
            for platform, build_id in build_ids.items():
                self._db.do("insert_job", run_id=run_id, platform=str(platform), build_id=build_id)
            self._leases.take(run_id, driver)
            self._tell(run_id, RunChange.CREATED, holder=driver.holder)
        return self.run(run_id)

    def take_lease(self, run_id: str, driver: Driver) -> Run:
        """Take the lease of an unfinished run, also a stale one of another driver.

        Raises DrivenElsewhereError `held` where another coordinator drives it, UsageError for a run that has ended or
        is unknown.
        """
        with self._db.change():
            self._leases.take_over(self.run(run_id), driver)
        return self.run(run_id)

    def beat(self, run_id: str) -> None:
        """Renew the lease of the run. Raises DrivenElsewhereError `taken` where this store no longer holds it."""
        with self._as_driver(run_id):
            self._leases.beat(run_id)

    def release(self, run_id: str) -> None:
        """End the lease of an unfinished run, so that another coordinator can take it."""
        with self._as_driver(run_id):
            self._leases.end(run_id)
            self._tell(run_id, RunChange.RELEASED)

    def ask_cancel(self, run_id: str) -> None:
        """Ask the driver of the run to cancel it. A run that has ended stays unchanged."""
        with self._db.change():
            self.run(run_id)
            if self._db.do("ask_cancel", id=run_id):
                self._tell(run_id, RunChange.CANCEL_ASKED)

    def cancel_asked(self, run_id: str) -> bool:
        return bool(self._known(run_id)["cancel_asked"])

    def run(self, run_id: str) -> Run:
        """Return the run as it is stored now. Raises UsageError for an unknown id."""
        with self._db.snapshot():
            row = self._known(run_id)
            attempts: dict[int, list[Attempt]] = {}
            for stored in self._db.all("attempts_of_run", run_id=run_id):
                attempts.setdefault(stored["job_id"], []).append(rows.attempt(stored))
            jobs = tuple(
                rows.job(stored, attempts.get(stored["id"], []))
                for stored in self._db.all("jobs_of_run", run_id=run_id)
            )
            tags = tuple(rows.tag_move(stored) for stored in self._db.all("tags_of_run", run_id=run_id))
            return rows.run(row, self._leases.of(run_id), jobs, tags)

    def runs(self, limit: int | None = 20) -> tuple[Run, ...]:
        """Return the latest runs, newest first; all runs where `limit` is None."""
        with self._db.snapshot():
            return tuple(self.run(row["id"]) for row in self._db.all("recent_runs", limit=limit))

    def newest_unfinished(self) -> Run | None:
        """Return the newest run that has not ended, whether a coordinator drives it or not."""
        return self._first("newest_unfinished")

    def previous(self, run: Run) -> Run | None:
        """Return the previous run of the same target."""
        with self._db.snapshot():
            earlier = self._heads("runs_before", id=run.id)
            run_id = next((row.id for row in earlier if run.target_key and row.target_key == run.target_key), None)
            return self.run(run_id) if run_id else None

    def find_runs(self, is_wanted: Callable[[Run], bool], limit: int) -> tuple[Run, ...]:
        """Return the latest runs that `is_wanted` accepts, newest first. It gets them without jobs and tag moves."""
        with self._db.snapshot():
            return tuple(self.run(row.id) for row in islice(filter(is_wanted, self._heads("all_runs")), limit))

    def events(self, run_id: str) -> tuple[StoredEvent, ...]:
        """Return all committed events of the run, in order. Raises UsageError for an unknown id."""
        with self._db.snapshot():
            self._known(run_id)
            return tuple(rows.event(row) for row in self._db.all("events_of_run", run_id=run_id))

    def has_ended(self, run_id: str) -> bool:
        """Return whether this is a run of this store that has ended."""
        matches = self._db.all("run", id=run_id)
        return bool(matches) and matches[0]["finished_at"] is not None

    def find_run(self, prefix: str) -> Run:
        """Return the run whose id begins with `prefix`. Raises UsageError where there is none or more than one."""
        matches = self._db.all("runs_by_prefix", prefix=prefix, limit=_MAX_RUNS_NAMED + 1) if prefix else []
        if len(matches) > 1:
            names = ", ".join(row["id"] for row in matches[:_MAX_RUNS_NAMED]) + (
                ", …" if len(matches) > _MAX_RUNS_NAMED else ""
            )
            raise UsageError(f"more than one run begins with '{prefix}': {names}", hint="list them with: archloom runs")
        return self.run(matches[0]["id"] if matches else prefix)

    def prune(self, run_ids: Iterable[str]) -> tuple[str, ...]:
        """Delete those of these runs that have ended, and return their ids."""
        with self._db.change():
            return tuple(run_id for run_id in run_ids if self._db.do("delete_run", id=run_id))

    def assign(self, job_id: int, host: str, mode: Mode) -> Attempt:
        """Give the job a new ASSIGNED attempt on a host: a pending job its next one, an ACTIVE job a second one."""
        with self._as_driver_of_job(job_id) as job:
            return self._add_attempt(job_id, job, host, mode)

    def adopt(self, job_id: int, kept: Attempt) -> Attempt | None:
        """Give the pending job a BUILT attempt with the image that the host of `kept` holds, and end `kept`.

        `kept` is a BUILT attempt of a run that has ended. Returns None where another run has taken it over meanwhile.
        """
        with self._as_driver_of_job(job_id) as job:
            if self._db.row("attempt_state", id=kept.id)["state"] != AttemptState.BUILT:
                return None
            message = f"taken over by run {job['run_id']}"
            self._set_attempt(kept.id, AttemptState.CANCELLED, message=message, ended_at=self._clock())
            attempt = self._add_attempt(job_id, job, kept.host, kept.mode, kept.agent_job)
            self._set_attempt(attempt.id, AttemptState.BUILT)
            step = (AttemptState.ASSIGNED, AttemptEvent.ADOPT, AttemptState.BUILT)
            self._tell(job["run_id"], AttemptChange(parse(job["platform"]), attempt.number, *step))
            return replace(attempt, state=AttemptState.BUILT)

    def kept_attempts(self, build_id: str, platform: Platform) -> tuple[Attempt, ...]:
        """Return what ended runs left on their hosts of this build id, the newest first."""
        kept = self._db.all("kept_attempts", build_id=build_id, platform=str(platform))
        return tuple(map(rows.attempt, kept))

    def is_obsolete(self, agent_job: str) -> bool | None:
        """Return whether no attempt needs this job on a host any more; None where none does now: its age decides."""
        attempts = self._db.all("attempts_by_agent_job", agent_job=agent_job)
        if not attempts:
            return self.has_ended(run_of(agent_job)) or None
        runs = {row["run_id"] for row in attempts if not (row["winning"] or states.ended(AttemptState(row["state"])))}
        return not runs or (False if any(map(self._leases.is_driven, runs)) else None)

    def move_attempt(
        self, attempt_id: int, event: AttemptEvent, *, code: str = "", message: str = "", digest: str = ""
    ) -> AttemptState:
        """Commit the attempt's next state and return it. An event of an attempt that has ended or won is dropped.

        Raises ForbiddenTransitionError where the state table does not allow the event.
        """
        attempt = self._db.row("attempt_state", id=attempt_id)
        with self._as_driver(attempt["run_id"]):
            row = self._db.row("attempt_state", id=attempt_id)
            before = AttemptState(row["state"])
            step = AttemptChange(parse(row["platform"]), row["number"], before, event, None)
            if row["winning"] or states.ended(before):
                self._tell(row["run_id"], step, code=code, message=message)
                return before
            state = states.after(states.ATTEMPT, before, event)
            ended_at = self._clock() if states.ended(state) else None
            self._set_attempt(attempt_id, state, code=code, message=message, digest=digest, ended_at=ended_at)
            self._tell(row["run_id"], replace(step, after=state), code=code, message=message)
        return state

    def move_job(self, job_id: int, event: JobEvent) -> JobState:
        """Commit the job's next state and return it. An event of a job that has ended is dropped."""
        with self._as_driver_of_job(job_id) as job:
            before = JobState(job["state"])
            if states.ended(before):
                self._drop(job, event)
                return before
            return self._step_job(job_id, job, event)

    def verify_job(self, job_id: int, child: Mapping[str, object], *, winner: int | None) -> bool:
        """Take the job to VERIFIED, with the child of attempt `winner`, which is PUSHED, or a reused child for None.

        What ended runs left on hosts of the same build id is no longer kept. Return False, and drop the event, where
        the job or that attempt has already ended.
        """
        event = JobEvent.REUSE if winner is None else JobEvent.VERIFY
        with self._as_driver_of_job(job_id) as job:
            if states.ended(JobState(job["state"])):
                self._drop(job, event)
                return False
            if winner is not None and not self._win(job_id, job, winner):
                return False
            self._step_job(job_id, job, event, json.dumps(child))
            self._db.do("drop_kept", job_id=job_id, run_id=job["run_id"], at=self._clock())
            return True

    def move_target(self, run_id: str, event: TargetEvent, *, digest: str = "") -> TargetState:
        """Commit the target's next state and return it; `digest` is that of the index, once it is known."""
        with self._as_driver(run_id):
            before = TargetState(self._known(run_id)["target_state"])
            state = states.after(states.TARGET, before, event)
            self._db.do("set_target_state", id=run_id, state=state, digest=digest)
            self._tell(run_id, TargetChange(before, event, state), digest=digest)
        return state

    def expect_tag(self, run_id: str, reference: str, previous: str) -> None:
        """Store the digest that the tag had before this run. A later call does not change it."""
        with self._as_driver(run_id):
            self._db.do("insert_tag", run_id=run_id, reference=reference, previous=previous)

    def tag_moved(self, run_id: str, reference: str) -> None:
        with self._as_driver(run_id):
            self._db.do("set_tag_moved", run_id=run_id, reference=reference)
            self._tell(run_id, TagMoved(reference))

    def finish(self, run_id: str, exit_code: int) -> float:
        """End the run and its lease; return when it ended, in epoch seconds. Its target must have ended before."""
        at = self._clock()
        with self._as_driver(run_id):
            self._leases.end(run_id)
            self._db.do("finish_run", id=run_id, at=at, exit_code=exit_code)
            self._tell(run_id, RunEnded(exit_code))
        return at

    def _add_attempt(self, job_id: int, job: Any, host: str, mode: Mode, name: str = "") -> Attempt:  # noqa: ANN401
        """Insert an ASSIGNED attempt, and return it. `name` is that of its job on the host, if it has one."""
        event = JobEvent.ASSIGN if job["state"] == JobState.PENDING else JobEvent.HEDGE
        self._step_job(job_id, job, event)
        number = 1 + int(self._db.row("count_attempts", job_id=job_id)["count"])
        agent_job = name or job_name(job["run_id"], parse(job["platform"]), number)
        values = {"job_id": job_id, "number": number, "host": host, "mode": mode, "agent_job": agent_job}
        self._db.row("insert_attempt", **values, at=self._clock())
        return self.run(job["run_id"]).job(job_id).attempts[-1]

    def _set_attempt(
        self,
        attempt_id: int,
        state: AttemptState,
        *,
        code: str = "",
        message: str = "",
        digest: str = "",
        ended_at: float | None = None,
    ) -> None:
        values = {"code": code, "message": message, "digest": digest, "ended_at": ended_at}
        self._db.do("set_attempt_state", id=attempt_id, state=state, **values)

    @contextlib.contextmanager
    def _as_driver(self, run_id: str) -> Iterator[None]:
        """Run the block in a transaction that changes a run. Raises DrivenElsewhereError `taken` without its lease."""
        with self._db.change():
            self._leases.hold(run_id)
            yield

    @contextlib.contextmanager
    def _as_driver_of_job(self, job_id: int) -> Iterator[Any]:
        """Do the same as `_as_driver` for the run of a job, and give the row of the job."""
        with self._as_driver(self._db.row("job_state", id=job_id)["run_id"]):
            yield self._db.row("job_state", id=job_id)

    def _known(self, run_id: str) -> Any:  # noqa: ANN401 - a row's columns have no static type
        matches = self._db.all("run", id=run_id)
        if not matches:
            raise UsageError(f"there is no run '{run_id}'", hint="list them with: archloom runs")
        return matches[0]

    def _heads(self, query: str, **values: object) -> Iterator[Run]:
        """Yield runs without jobs and tag moves: one query, and one for the lease of each unfinished run."""
        for row in self._db.all(query, **values):
            lease = self._leases.of(row["id"]) if row["finished_at"] is None else None
            yield rows.run(row, lease, (), ())

    def _first(self, query: str, **values: object) -> Run | None:
        with self._db.snapshot():
            matches = self._db.all(query, **values)
            return self.run(matches[0]["id"]) if matches else None

    def _win(self, job_id: int, job: Any, winner: int) -> bool:  # noqa: ANN401
        attempt = self._db.row("attempt_state", id=winner)
        if states.ended(AttemptState(attempt["state"])):
            self._drop(job, JobEvent.VERIFY, attempt=str(attempt["number"]))
            return False
        if attempt["job_id"] != job_id or attempt["state"] != AttemptState.PUSHED:
            raise ForbiddenTransitionError(f"attempt {winner}, '{attempt['state']}', cannot win job {job_id}")
        self._db.do("set_winner", id=winner)
        return True

    def _step_job(self, job_id: int, job: Any, event: JobEvent, child: str | None = None) -> JobState:  # noqa: ANN401
        before = JobState(job["state"])
        state = states.after(states.JOB, before, event)
        self._db.do("set_job_state", id=job_id, state=state, child=child, reused=int(event is JobEvent.REUSE))
        self._tell(job["run_id"], JobChange(parse(job["platform"]), before, event, state))
        return state

    def _drop(self, job: Any, event: JobEvent, **data: str) -> None:  # noqa: ANN401
        self._tell(job["run_id"], JobChange(parse(job["platform"]), JobState(job["state"]), event, None), **data)

    def _tell(self, run_id: str, step: HistoryEntry, **data: str) -> None:
        values = json.dumps({key: value for key, value in data.items() if value})
        self._db.do("insert_event", run_id=run_id, at=self._clock(), what=str(step), data=values)
