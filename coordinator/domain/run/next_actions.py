"""What may be done next for a run, from its stored state alone; a start and a resume get the same answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from coordinator.domain.run.model import Job, Run
from coordinator.domain.run.retry import Verdict, verdict
from coordinator.domain.run.states import AttemptState, JobEvent, JobState, TargetEvent, TargetState


@dataclass(frozen=True, slots=True)
class Assign:
    """The job needs a host."""

    job_id: int


@dataclass(frozen=True, slots=True)
class Send:
    attempt_id: int


@dataclass(frozen=True, slots=True)
class Build:
    attempt_id: int


@dataclass(frozen=True, slots=True)
class Push:
    attempt_id: int


@dataclass(frozen=True, slots=True)
class Verify:
    attempt_id: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """The attempt is no longer wanted, because another job stopped the run."""

    attempt_id: int


@dataclass(frozen=True, slots=True)
class SettleJob:
    """Record what the end of the latest attempt means for the job; no other work."""

    job_id: int
    event: JobEvent


@dataclass(frozen=True, slots=True)
class SettleTarget:
    event: TargetEvent


@dataclass(frozen=True, slots=True)
class Publish:
    """Write the index, then move the tags; the action itself goes through INDEXED and TAGGING."""


Action: TypeAlias = Assign | Send | Build | Push | Verify | Cancel | SettleJob | SettleTarget | Publish


def next_actions(run: Run) -> tuple[Action, ...]:
    """Return what may be done now, from the stored state alone. Empty when the run is over.

    An action stays in the answer while it is under way; the driver starts each action once.
    """
    actions: list[Action] = []
    stopped = run.stopped_by is not None
    for job in run.jobs:
        action = (_to_stop(job) if stopped else None) or _for_job(job)
        if action is not None:
            actions.append(action)
    if not actions:
        target = _for_target(run)
        if target is not None:
            actions.append(target)
    return tuple(actions)


def _to_stop(job: Job) -> Action | None:
    """Return how to stop the job. None for a pushed image, which is still verified: its pin saves a later build."""
    if job.state is JobState.PENDING:
        return SettleJob(job.id, JobEvent.SKIP)
    if job.state is JobState.ACTIVE and job.attempts[-1].on_its_host:
        return Cancel(job.attempts[-1].id)
    return None


def _for_job(job: Job) -> Action | None:
    match job.state:
        case JobState.PENDING:
            return Assign(job.id)
        case JobState.ACTIVE:
            return _for_attempt(job)
        case JobState.VERIFIED | JobState.FAILED | JobState.LOST | JobState.CANCELLED | JobState.SKIPPED:
            return None


def _for_attempt(job: Job) -> Action:
    attempt = job.attempts[-1]
    match attempt.state:
        case AttemptState.ASSIGNED | AttemptState.SENDING:
            return Send(attempt.id)
        case AttemptState.BUILDING:
            return Build(attempt.id)
        case AttemptState.BUILT | AttemptState.PUSHING:
            return Push(attempt.id)
        case AttemptState.PUSHED:
            return Verify(attempt.id)
        case AttemptState.FAILED:
            return SettleJob(job.id, JobEvent.FAIL)
        case AttemptState.CANCELLED:
            return SettleJob(job.id, JobEvent.CANCEL)
        case AttemptState.LOST:
            enough = verdict(job.codes) is Verdict.ENOUGH
            return SettleJob(job.id, JobEvent.LOSE if enough else JobEvent.RETRY)


def _for_target(run: Run) -> Action | None:
    match run.target_state:
        case TargetState.OPEN:
            complete = all(job.state is JobState.VERIFIED for job in run.jobs)
            return SettleTarget(TargetEvent.COMPLETE if complete else TargetEvent.GIVE_UP)
        case TargetState.READY | TargetState.INDEXED | TargetState.TAGGING:
            return Publish()
        case TargetState.PUBLISHED | TargetState.INCOMPLETE | TargetState.CONFLICT:
            return None
