"""What outlives the process: runs, jobs, attempts, tags, events and the facts of hosts in one SQLite file.

Every change of state goes through the tables of `domain.states` and is committed, with its event, in one transaction
before the caller may act on it. A run has one driver: what changes the run is refused, inside its transaction, to
whoever does not hold the run's lease any more. The database refuses by itself what no program may do (`schema/3.sql`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

from coordinator.domain.hosts.last_probe import LastProbe
from coordinator.domain.image.platforms import Mode, Platform, parse
from coordinator.domain.run import states
from coordinator.domain.run.history import AttemptStep, JobStep, RunEnded, RunStep, Step, TagMoved, TargetStep
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
from coordinator.store.database import PATIENCE_S, Database
from coordinator.store.leases import Leases
from coordinator.store.processes import is_alive

# What is remembered of a host that nobody has asked for this long is of no use.
_FORGOTTEN_S = 90 * 86400.0
# So many runs, the newest, are named to who meant one of them.
_MOST_NAMED = 5


class Store:
    """One open store; without a path a private one in memory. `clock` gives epoch seconds.

    `is_alive` says whether a driver's process lives, None where nobody can tell. `patience_s` is how long a lock of
    somebody else's is waited for. With `on_loss`, a file that takes no more changes ends nothing: it is told to it
    once, and the store goes on in memory.
    """

    def __init__(
        self,
        path: Path | None,
        clock: Callable[[], float],
        *,
        is_alive: Callable[[Driver], bool | None] = is_alive,
        patience_s: float = PATIENCE_S,
        on_loss: Callable[[ArchloomError], None] | None = None,
    ) -> None:
        self.path = path
        self._clock = clock
        self._db = Database(path, patience_s, on_loss)
        self._leases = Leases(self._db, clock, is_alive, self._tell)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def check(self) -> None:
        """Raises UsageError `corrupt` where the file is damaged, which else only those learn who come upon it."""
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
    ) -> Run:
        """A new run with one pending job per platform, driven by `driver` from the first moment."""
        with self._db.change():
            self._db.do(
                "insert_run",
                id=run_id,
                at=self._clock(),
                request=json.dumps(request),
                inputs=json.dumps(inputs),
                inventory=inventory,
            )
            for platform, build_id in build_ids.items():
                self._db.do("insert_job", run_id=run_id, platform=str(platform), build_id=build_id)
            self._leases.take(run_id, driver)
            self._tell(run_id, RunStep.CREATED, holder=driver.holder)
        return self.run(run_id)

    def drive(self, run_id: str, driver: Driver) -> Run:
        """Takes the lease of an unfinished run, also a stale one of somebody else's.

        Raises HeldError `held` where another drives it, UsageError for a run that has ended or is unknown.
        """
        with self._db.change():
            self._leases.take_over(self.run(run_id), driver)
        return self.run(run_id)

    def beat(self, run_id: str) -> None:
        """The driver is still there. Raises HeldError `taken` where another has the run now."""
        with self._drive(run_id):
            self._leases.beat(run_id)

    def release(self, run_id: str) -> None:
        """Gives the run back unfinished, for whoever drives it next."""
        with self._drive(run_id):
            self._leases.end(run_id)
            self._tell(run_id, RunStep.RELEASED)

    def ask_cancel(self, run_id: str) -> None:
        """Asks whoever drives the run to cancel it. A run that has ended is left as it is."""
        with self._db.change():
            self.run(run_id)
            if self._db.do("ask_cancel", id=run_id):
                self._tell(run_id, RunStep.CANCEL_ASKED)

    def cancel_asked(self, run_id: str) -> bool:
        return bool(self._known(run_id)["cancel_asked"])

    def run(self, run_id: str) -> Run:
        """The run as it is stored now. Raises UsageError for an unknown id."""
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
        """The latest runs, newest first; all of them without a limit."""
        with self._db.snapshot():
            return tuple(self.run(row["id"]) for row in self._db.all("recent_runs", limit=limit))

    def newest_unfinished(self) -> Run | None:
        """Driven or not."""
        return self._first("newest_unfinished")

    def previous(self, run: Run) -> Run | None:
        """The run before this one of the same target."""
        with self._db.snapshot():
            earlier = self._heads("runs_before", id=run.id)
            found = next((row.id for row in earlier if run.target_key and row.target_key == run.target_key), None)
            return self.run(found) if found else None

    def find_runs(self, is_wanted: Callable[[Run], bool], limit: int) -> tuple[Run, ...]:
        """The latest runs that are wanted, newest first. `is_wanted` is shown them without their jobs and tag moves."""
        with self._db.snapshot():
            return tuple(self.run(row.id) for row in islice(filter(is_wanted, self._heads("all_runs")), limit))

    def events(self, run_id: str) -> tuple[StoredEvent, ...]:
        """Everything that was committed of the run, in its order. Raises UsageError for an unknown id."""
        with self._db.snapshot():
            self._known(run_id)
            return tuple(rows.event(row) for row in self._db.all("events_of_run", run_id=run_id))

    def has_ended(self, run_id: str) -> bool:
        """Whether this is a run of this store, and over."""
        found = self._db.all("run", id=run_id)
        return bool(found) and found[0]["finished_at"] is not None

    def find_run(self, prefix: str) -> Run:
        """The run whose id begins with `prefix`. Raises UsageError when there is none or more than one."""
        found = self._db.all("runs_by_prefix", prefix=prefix, limit=_MOST_NAMED + 1) if prefix else []
        if len(found) > 1:
            names = ", ".join(row["id"] for row in found[:_MOST_NAMED]) + (", …" if len(found) > _MOST_NAMED else "")
            raise UsageError(f"more than one run begins with '{prefix}': {names}", hint="see them with: archloom runs")
        return self.run(found[0]["id"] if found else prefix)

    def prune(self, run_ids: Iterable[str]) -> tuple[str, ...]:
        """Deletes these runs, but none that is not finished, and returns those that are deleted."""
        with self._db.change():
            return tuple(run_id for run_id in run_ids if self._db.do("delete_run", id=run_id))

    def assign(self, job_id: int, host: str, mode: Mode) -> Attempt:
        """Gives a pending job a host: the job is ACTIVE with a new ASSIGNED attempt."""
        with self._drive_job(job_id) as job:
            self._step_job(job_id, job, JobEvent.ASSIGN)
            return rows.attempt(self._db.row("insert_attempt", job_id=job_id, host=host, mode=mode, at=self._clock()))

    def move_attempt(
        self, attempt_id: int, event: AttemptEvent, *, code: str = "", message: str = "", digest: str = ""
    ) -> AttemptState:
        """The attempt's next state, committed. What is reported of one that has ended or won is dropped: it stays.

        Raises ForbiddenTransitionError where the table has no such step.
        """
        found = self._db.row("attempt_state", id=attempt_id)
        with self._drive(found["run_id"]):
            row = self._db.row("attempt_state", id=attempt_id)
            before = AttemptState(row["state"])
            step = AttemptStep(parse(row["platform"]), row["number"], before, event, None)
            if row["winning"] or states.ended(before):
                self._tell(row["run_id"], step, code=code, message=message)
                return before
            state = states.after(states.ATTEMPT, before, event)
            ended_at = self._clock() if states.ended(state) else None
            self._db.do(
                "set_attempt_state",
                id=attempt_id,
                state=state,
                code=code,
                message=message,
                digest=digest,
                ended_at=ended_at,
            )
            self._tell(row["run_id"], replace(step, after=state), code=code, message=message)
        return state

    def move_job(self, job_id: int, event: JobEvent) -> JobState:
        """The job's next state, committed. What is reported of one that has ended is dropped: it stays."""
        with self._drive_job(job_id) as job:
            before = JobState(job["state"])
            if states.ended(before):
                self._drop(job, event)
                return before
            return self._step_job(job_id, job, event)

    def verify_job(self, job_id: int, child: Mapping[str, object], *, winner: int | None) -> bool:
        """The job has its child: from attempt `winner`, which is PUSHED, or reused where that is None.

        False where it is dropped, the job or that attempt having ended before.
        """
        event = JobEvent.REUSE if winner is None else JobEvent.VERIFY
        with self._drive_job(job_id) as job:
            if states.ended(JobState(job["state"])):
                self._drop(job, event)
                return False
            if winner is not None and not self._win(job_id, job, winner):
                return False
            self._step_job(job_id, job, event, json.dumps(child))
            return True

    def move_target(self, run_id: str, event: TargetEvent, *, digest: str = "") -> TargetState:
        """The target's next state, committed; `digest` is the index's, once it is known."""
        with self._drive(run_id):
            before = TargetState(self._known(run_id)["target_state"])
            state = states.after(states.TARGET, before, event)
            self._db.do("set_target_state", id=run_id, state=state, digest=digest)
            self._tell(run_id, TargetStep(before, event, state), digest=digest)
        return state

    def expect_tag(self, run_id: str, reference: str, previous: str) -> None:
        """Remembers what the tag was before this run; the first word stands."""
        with self._drive(run_id):
            self._db.do("insert_tag", run_id=run_id, reference=reference, previous=previous)

    def tag_moved(self, run_id: str, reference: str) -> None:
        with self._drive(run_id):
            self._db.do("set_tag_moved", run_id=run_id, reference=reference)
            self._tell(run_id, TagMoved(reference))

    def finish(self, run_id: str, exit_code: int) -> None:
        """The run is over, its target having ended before, and with it the lease."""
        with self._drive(run_id):
            self._leases.end(run_id)
            self._db.do("finish_run", id=run_id, at=self._clock(), exit_code=exit_code)
            self._tell(run_id, RunEnded(exit_code))

    def sightings(self) -> dict[tuple[str, str], LastProbe]:
        """What is remembered of hosts, by name and address."""
        return {(row["host"], row["address"]): rows.sighting(row) for row in self._db.all("sightings")}

    def saw_host(self, host: str, address: str, seen: LastProbe) -> None:
        """The host answered. That it did not before is over."""
        with self._db.change():
            self._db.do("forget_hosts", before=self._clock() - _FORGOTTEN_S)
            self._db.do(
                "saw_host",
                host=host,
                address=address,
                seen_at=seen.seen_at,
                round_trip=seen.round_trip,
                machine=seen.machine,
                observation=json.dumps(seen.observation),
            )

    def missed_host(self, host: str, address: str, message: str, hint: str) -> None:
        """Nothing answered at this address. What the host was when it last did stays known."""
        with self._db.change():
            values = {"host": host, "address": address, "at": self._clock()}
            self._db.do("missed_host", **values, message=message, hint=hint)

    @contextlib.contextmanager
    def _drive(self, run_id: str) -> Iterator[None]:
        """A change of a run that this object drives."""
        with self._db.change():
            self._leases.hold(run_id)
            yield

    @contextlib.contextmanager
    def _drive_job(self, job_id: int) -> Iterator[Any]:
        """The same; gives the row of the job."""
        with self._drive(self._db.row("job_state", id=job_id)["run_id"]):
            yield self._db.row("job_state", id=job_id)

    def _known(self, run_id: str) -> Any:  # noqa: ANN401 - a row's columns have no static type
        found = self._db.all("run", id=run_id)
        if not found:
            raise UsageError(f"there is no run '{run_id}'", hint="list them with: archloom runs")
        return found[0]

    def _heads(self, query: str, **values: object) -> Iterator[Run]:
        """Runs without what other tables have of them but the lease: one query, however many there are."""
        for row in self._db.all(query, **values):
            lease = self._leases.of(row["id"]) if row["finished_at"] is None else None
            yield rows.run(row, lease, (), ())

    def _first(self, query: str, **values: object) -> Run | None:
        with self._db.snapshot():
            found = self._db.all(query, **values)
            return self.run(found[0]["id"]) if found else None

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
        self._tell(job["run_id"], JobStep(parse(job["platform"]), before, event, state))
        return state

    def _drop(self, job: Any, event: JobEvent, **data: str) -> None:  # noqa: ANN401
        self._tell(job["run_id"], JobStep(parse(job["platform"]), JobState(job["state"]), event, None), **data)

    def _tell(self, run_id: str, step: Step, **data: str) -> None:
        kept = json.dumps({key: value for key, value in data.items() if value})
        self._db.do("insert_event", run_id=run_id, at=self._clock(), what=str(step), data=kept)
