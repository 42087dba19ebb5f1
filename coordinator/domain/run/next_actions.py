"""What may be done next for a run, from its stored state alone; a start and a resume get the same answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from coordinator.domain.run import states
from coordinator.domain.run.model import Attempt, Job, Run
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
    """The attempt is not needed: its job has ended, or another job stopped the run. An image that is built is kept."""

    attempt_id: int


@dataclass(frozen=True, slots=True)
class SettleJob:
    """Record what the ends of its attempts mean for the job; no other work."""

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

    An action stays in the answer while it is under way; the driver starts each action once. Publishing needs the ends
    of the jobs, and waits for no attempt: the host of one that is not needed may be away.
    """
    stopped = run.stopped_by is not None
    actions: list[Action] = []
    for job in run.jobs:
        actions += _to_stop(job) if stopped and not states.ended(job.state) else _for_job(job)
    if all(states.ended(job.state) for job in run.jobs):
        target = _for_target(run)
        if target is not None:
            actions.append(target)
    return tuple(actions)


def _to_stop(job: Job) -> tuple[Action, ...]:
    """Return how to stop the job. A pushed image is still verified: its pin saves a later build."""
    if job.state is JobState.PENDING:
        return (SettleJob(job.id, JobEvent.SKIP),)
    pushed = next((attempt for attempt in job.live if attempt.state is AttemptState.PUSHED), None)
    if pushed is not None:
        return (Verify(pushed.id), *(Cancel(attempt.id) for attempt in job.live if attempt.is_unbuilt))
    working = [attempt for attempt in job.live if attempt.state is not AttemptState.BUILT]
    if working:
        return tuple(Cancel(attempt.id) for attempt in working)
    return (SettleJob(job.id, JobEvent.CANCEL),) if job.live else _for_job(job)


def _for_job(job: Job) -> tuple[Action, ...]:
    match job.state:
        case JobState.PENDING:
            return (Assign(job.id),)
        case JobState.ACTIVE:
            return _for_attempts(job)
        case JobState.VERIFIED | JobState.FAILED | JobState.LOST | JobState.CANCELLED | JobState.SKIPPED:
            return tuple(Cancel(attempt.id) for attempt in job.live if attempt != job.kept)


def _for_attempts(job: Job) -> tuple[Action, ...]:
    """Return the step of every live attempt, or what their ends mean for the job."""
    if any(attempt.is_final for attempt in job.attempts):
        return (SettleJob(job.id, JobEvent.FAIL),)
    if not job.live:
        return (SettleJob(job.id, _end(job)),)
    # One verification at a time: the first that succeeds ends the job.
    verified = next((attempt for attempt in job.live if attempt.state is AttemptState.PUSHED), None)
    return tuple(
        _for_attempt(attempt) for attempt in job.live if attempt is verified or attempt.state is not AttemptState.PUSHED
    )


def _for_attempt(attempt: Attempt) -> Action:
    match attempt.state:
        case AttemptState.ASSIGNED | AttemptState.SENDING:
            return Send(attempt.id)
        case AttemptState.BUILDING:
            return Build(attempt.id)
        case AttemptState.BUILT | AttemptState.PUSHING:
            return Push(attempt.id)
        case AttemptState.PUSHED:
            return Verify(attempt.id)
        case AttemptState.FAILED | AttemptState.LOST | AttemptState.CANCELLED:
            raise ValueError(f"attempt {attempt.id} has ended")


def _end(job: Job) -> JobEvent:
    """Return what the job comes to, now that each of its attempts has ended."""
    if not job.losses or job.attempts[-1].state is AttemptState.CANCELLED:
        return JobEvent.CANCEL
    if verdict(job.codes) is not Verdict.ENOUGH:
        return JobEvent.RETRY
    return JobEvent.FAIL if job.losses[-1].state is AttemptState.FAILED else JobEvent.LOSE


def _for_target(run: Run) -> Action | None:
    match run.target_state:
        case TargetState.OPEN:
            complete = all(job.state is JobState.VERIFIED for job in run.jobs)
            return SettleTarget(TargetEvent.COMPLETE if complete else TargetEvent.GIVE_UP)
        case TargetState.READY | TargetState.INDEXED | TargetState.TAGGING:
            return Publish()
        case TargetState.PUBLISHED | TargetState.INCOMPLETE | TargetState.CONFLICT:
            return None
