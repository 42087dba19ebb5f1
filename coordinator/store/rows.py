"""Convert rows of the store to domain values."""

from __future__ import annotations

import json
import sqlite3

from coordinator.domain.hosts.last_probe import LastProbe
from coordinator.domain.image.platforms import Mode, parse
from coordinator.domain.run.history import read
from coordinator.domain.run.job_names import agent_job
from coordinator.domain.run.lease import Driver, Lease
from coordinator.domain.run.model import Attempt, Job, Run, StoredEvent, TagMove
from coordinator.domain.run.states import AttemptState, JobState, TargetState


def run(row: sqlite3.Row, lease: Lease | None, jobs: tuple[Job, ...], tags: tuple[TagMove, ...]) -> Run:
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
        inputs=json.loads(row["inputs"]),
        inventory=row["inventory"],
        lease=lease,
        cancel_asked=bool(row["cancel_asked"]),
    )


def job(row: sqlite3.Row, attempts: list[Attempt]) -> Job:
    return Job(
        id=row["id"],
        platform=parse(row["platform"]),
        state=JobState(row["state"]),
        build_id=row["build_id"],
        reused=bool(row["reused"]),
        child=json.loads(row["child"]) if row["child"] else None,
        attempts=tuple(attempts),
    )


def attempt(row: sqlite3.Row) -> Attempt:
    return Attempt(
        id=row["id"],
        job_id=row["job_id"],
        number=row["number"],
        host=row["host"],
        mode=Mode(row["mode"]),
        state=AttemptState(row["state"]),
        agent_job=row["agent_job"] or agent_job(row["run_id"], parse(row["platform"]), row["number"]),
        code=row["code"],
        message=row["message"],
        digest=row["digest"],
        won=bool(row["winning"]),
        started_at=row["started_at"],
        ended_at=row["ended_at"],
    )


def tag_move(row: sqlite3.Row) -> TagMove:
    return TagMove(reference=row["reference"], previous=row["previous"], moved=bool(row["moved"]))


def lease(row: sqlite3.Row) -> Lease:
    driver = Driver(
        token=row["token"], holder=row["holder"], pid=row["pid"], started=row["started"], boot_id=row["boot_id"]
    )
    return Lease(driver=driver, beat_at=row["beat_at"])


def event(row: sqlite3.Row) -> StoredEvent:
    return StoredEvent(at=row["at"], what=read(row["what"]), data=json.loads(row["data"]))


def last_probe(row: sqlite3.Row) -> LastProbe:
    return LastProbe(
        observation=json.loads(row["observation"]) if row["observation"] else None,
        seen_at=row["seen_at"] or 0.0,
        round_trip=row["round_trip"],
        machine=row["machine"],
        silent_at=row["silent_at"],
        message=row["message"],
        hint=row["hint"],
    )
