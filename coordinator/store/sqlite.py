"""What outlives the process: runs, jobs, attempts, tags, events and the facts of hosts in one SQLite file.

Every change of state goes through the tables of `domain.states` and is committed, with its event, in one transaction
before the caller may act on it. Calls are short and synchronous: a commit is a few milliseconds, less than the hop to
a thread and back.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from coordinator.domain import states
from coordinator.domain.known import Sighting
from coordinator.domain.platforms import Mode, Platform, parse
from coordinator.domain.run import Attempt, Job, Run, TagMove
from coordinator.domain.states import (
    AttemptEvent,
    AttemptState,
    JobEvent,
    JobState,
    TargetEvent,
    TargetState,
)
from coordinator.errors import ArchloomError, LostError, UsageError
from coordinator.store.queries import queries, schema

VERSION = 2
_BUSY_TIMEOUT_S = 10.0
# What is remembered of a host that nobody has asked for this long is of no use.
_FORGOTTEN_S = 90 * 86400.0


class Store:
    """One open store. `clock` gives epoch seconds."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self.path = path
        self._clock = clock
        self._queries = queries()
        with _translated(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def create_run(self, run_id: str, request: Mapping[str, object], build_ids: Mapping[Platform, str]) -> Run:
        """A new run with one pending job per platform."""
        with self._change():
            self._do("insert_run", id=run_id, at=self._clock(), request=json.dumps(request))
            for platform, build_id in build_ids.items():
                self._do("insert_job", run_id=run_id, platform=str(platform), build_id=build_id)
            self._tell(run_id, "run created")
        return self.run(run_id)

    def run(self, run_id: str) -> Run:
        """The run as it is stored now. Raises UsageError for an unknown id."""
        found = self._all("run", id=run_id)
        if not found:
            raise UsageError(f"there is no run '{run_id}'", hint="list them with: archloom runs")
        row = found[0]
        attempts: dict[int, list[Attempt]] = {}
        for one in self._all("attempts_of_run", run_id=run_id):
            attempts.setdefault(one["job_id"], []).append(_attempt(one))
        jobs = tuple(_job(one, attempts.get(one["id"], [])) for one in self._all("jobs_of_run", run_id=run_id))
        tags = tuple(
            TagMove(reference=one["reference"], previous=one["previous"], moved=bool(one["moved"]))
            for one in self._all("tags_of_run", run_id=run_id)
        )
        return Run(
            id=row["id"],
            request=json.loads(row["request"]),
            target_state=TargetState(row["target_state"]),
            index_digest=row["index_digest"],
            jobs=jobs,
            tags=tags,
            created_at=row["created_at"],
            finished_at=row["finished_at"],
            exit_code=row["exit_code"],
        )

    def runs(self, limit: int = 20) -> tuple[Run, ...]:
        """The latest runs, newest first."""
        return tuple(self.run(row["id"]) for row in self._all("recent_runs", limit=limit))

    def has_ended(self, run_id: str) -> bool:
        """Whether this is a run of this store, and over."""
        found = self._all("run", id=run_id)
        return bool(found) and found[0]["finished_at"] is not None

    def find_run(self, prefix: str) -> Run:
        """The run whose id begins with `prefix`. Raises UsageError when there is none or more than one."""
        rows = self._all("runs_by_prefix", prefix=prefix) if prefix else []
        if len(rows) > 1:
            raise UsageError(f"more than one run begins with '{prefix}'", hint="list them with: archloom runs")
        return self.run(rows[0]["id"] if rows else prefix)

    def assign(self, job_id: int, host: str, mode: Mode) -> Attempt:
        """Gives a pending job a host: the job is ACTIVE with a new ASSIGNED attempt."""
        with self._change():
            self._move_job(job_id, JobEvent.ASSIGN)
            return _attempt(self._row("insert_attempt", job_id=job_id, host=host, mode=mode, at=self._clock()))

    def move_attempt(
        self, attempt_id: int, event: AttemptEvent, *, code: str = "", message: str = "", digest: str = ""
    ) -> AttemptState:
        """The attempt's next state, committed. Raises ForbiddenTransitionError where the table has no such step."""
        with self._change():
            row = self._row("attempt_state", id=attempt_id)
            state = states.after(states.ATTEMPT, AttemptState(row["state"]), event)
            ended_at = self._clock() if states.ended(state) else None
            self._do(
                "set_attempt_state",
                id=attempt_id,
                state=state,
                code=code,
                message=message,
                digest=digest,
                ended_at=ended_at,
            )
            what = f"attempt {row['platform']} {row['number']} {row['state']} {event} {state}"
            self._tell(row["run_id"], what, code=code, message=message)
        return state

    def move_job(self, job_id: int, event: JobEvent) -> JobState:
        """The job's next state, committed."""
        with self._change():
            return self._move_job(job_id, event)

    def verify_job(self, job_id: int, child: Mapping[str, object], *, winner: int | None) -> None:
        """The job has its child: from attempt `winner`, or reused where that is None."""
        with self._change():
            if winner is not None:
                self._do("set_winner", id=winner)
            event = JobEvent.REUSE if winner is None else JobEvent.VERIFY
            self._move_job(job_id, event, child=json.dumps(child))

    def move_target(self, run_id: str, event: TargetEvent, *, digest: str = "") -> TargetState:
        """The target's next state, committed; `digest` is the index's, once it is known."""
        with self._change():
            row = self._row("run", id=run_id)
            state = states.after(states.TARGET, TargetState(row["target_state"]), event)
            self._do("set_target_state", id=run_id, state=state, digest=digest)
            self._tell(run_id, f"target {row['target_state']} {event} {state}", digest=digest)
        return state

    def expect_tag(self, run_id: str, reference: str, previous: str) -> None:
        """Remembers what the tag was before this run; the first word stands."""
        with self._change():
            self._do("insert_tag", run_id=run_id, reference=reference, previous=previous)

    def tag_moved(self, run_id: str, reference: str) -> None:
        with self._change():
            self._do("set_tag_moved", run_id=run_id, reference=reference)
            self._tell(run_id, f"tag {reference} moved")

    def finish(self, run_id: str, exit_code: int) -> None:
        with self._change():
            self._do("finish_run", id=run_id, at=self._clock(), exit_code=exit_code)
            self._tell(run_id, f"run ended {exit_code}")

    def sightings(self) -> dict[tuple[str, str], Sighting]:
        """What is remembered of hosts, by name and address."""
        return {(row["host"], row["address"]): _sighting(row) for row in self._all("sightings")}

    def saw_host(self, host: str, address: str, seen: Sighting) -> None:
        """The host answered. That it did not before is over."""
        with self._change():
            self._do("forget_hosts", before=self._clock() - _FORGOTTEN_S)
            self._do(
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
        with self._change():
            values = {"host": host, "address": address, "at": self._clock()}
            self._do("missed_host", **values, message=message, hint=hint)

    def _move_job(self, job_id: int, event: JobEvent, child: str | None = None) -> JobState:
        row = self._row("job_state", id=job_id)
        state = states.after(states.JOB, JobState(row["state"]), event)
        self._do("set_job_state", id=job_id, state=state, child=child, reused=int(event is JobEvent.REUSE))
        self._tell(row["run_id"], f"job {row['platform']} {row['state']} {event} {state}")
        return state

    def _tell(self, run_id: str, what: str, **data: str) -> None:
        kept = json.dumps({key: value for key, value in data.items() if value})
        self._do("insert_event", run_id=run_id, at=self._clock(), what=what, data=kept)

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        with _translated(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # A full disk has rolled back already.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _do(self, name: str, **values: object) -> None:
        self._db.execute(self._queries[name], values)

    def _row(self, name: str, **values: object) -> Any:  # noqa: ANN401 - a row's columns have no static type
        """The one row there must be."""
        return self._all(name, **values)[0]

    def _all(self, name: str, **values: object) -> list[Any]:
        with _translated(self.path):
            return self._db.execute(self._queries[name], values).fetchall()

    def _prepare(self) -> None:
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.execute("PRAGMA journal_mode = WAL")
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found > VERSION:
            raise UsageError(
                f"{self.path} was written by a newer archloom (store version {found}, this one reads {VERSION})",
                hint="update archloom, or give another state folder with XDG_STATE_HOME",
            )
        if found < VERSION:
            steps = schema(found, VERSION)
            self._db.executescript(f"BEGIN IMMEDIATE;\n{steps}\nPRAGMA user_version = {VERSION};\nCOMMIT;")


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"cannot use the state folder {path.parent}: {error.strerror}",
            hint="give another one with XDG_STATE_HOME",
        ) from error
    except sqlite3.Error as error:
        raise _explained(path, error) from error


def _explained(path: Path, error: sqlite3.Error) -> ArchloomError:
    name = error.sqlite_errorname if hasattr(error, "sqlite_errorname") else ""
    match name.split("_")[1] if name.startswith("SQLITE_") else "":
        case "FULL" | "IOERR":
            return LostError(f"the disk with {path} is full or failing ({error})", hint="free some space", code="disk")
        case "BUSY" | "LOCKED":
            return LostError(f"{path} is locked by another archloom", hint="try again in a moment", code="locked")
        case "READONLY" | "CANTOPEN" | "PERM":
            hint = "give another state folder with XDG_STATE_HOME"
            return UsageError(f"cannot write {path}: {error}", hint=hint)
        case "CORRUPT" | "NOTADB":
            hint = f"move it away, history starts anew: mv {path} {path}.bad"
            return UsageError(f"{path} is not a readable store: {error}", hint=hint)
        case _:
            return ArchloomError(f"the store {path} failed: {error}")


def _attempt(row: sqlite3.Row) -> Attempt:
    return Attempt(
        id=row["id"],
        job_id=row["job_id"],
        number=row["number"],
        host=row["host"],
        mode=Mode(row["mode"]),
        state=AttemptState(row["state"]),
        code=row["code"],
        message=row["message"],
        digest=row["digest"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
    )


def _sighting(row: sqlite3.Row) -> Sighting:
    return Sighting(
        observation=json.loads(row["observation"]) if row["observation"] else None,
        seen_at=row["seen_at"] or 0.0,
        round_trip=row["round_trip"],
        machine=row["machine"],
        silent_at=row["silent_at"],
        message=row["message"],
        hint=row["hint"],
    )


def _job(row: sqlite3.Row, attempts: list[Attempt]) -> Job:
    return Job(
        id=row["id"],
        platform=parse(row["platform"]),
        state=JobState(row["state"]),
        build_id=row["build_id"],
        reused=bool(row["reused"]),
        child=json.loads(row["child"]) if row["child"] else None,
        attempts=tuple(attempts),
    )
