"""Drive a run: read the next actions, carry them out, commit, repeat. A start and a resume are the same call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from coordinator.domain.image.platforms import Platform
from coordinator.domain.placement.schedule import Candidate, assign, turns, unassignable
from coordinator.domain.run.events import Assigned, Emit, Place, Skipped, Waiting
from coordinator.domain.run.model import Job, Run
from coordinator.domain.run.next_actions import (
    Action,
    Assign,
    Build,
    Cancel,
    Publish,
    Push,
    Send,
    SettleJob,
    SettleTarget,
    Verify,
    next_actions,
)
from coordinator.domain.run.states import JobEvent
from coordinator.store.sqlite import Store

StepAction = Send | Build | Push | Verify | Cancel | Publish
Dispatch = Callable[[StepAction], Awaitable[None]]


async def drive(
    run_id: str,
    store: Store,
    dispatch: Dispatch,
    candidates: Mapping[Platform, Sequence[Candidate]],
    slots: Mapping[str, int],
    emit: Emit,
) -> Run:
    """Carry out the actions that the stored state allows until there are none; return the run as it is then.

    `dispatch` carries out a step and commits its outcome before it returns. Any exception that it raises ends the loop:
    the steps in progress are cancelled, and the store has the last committed state of each.
    """
    in_progress: dict[Action, asyncio.Task[None]] = {}
    reported: set[int] = set()
    reported_turns: set[int] = set()
    try:
        while True:
            run = _commit_decisions(store.run(run_id), store, candidates, slots, emit)
            _report_waiting(run, reported, emit)
            waiting = turns(run, slots, [action.attempt_id for action in in_progress if isinstance(action, Build)])
            _report_turns(run, waiting, reported_turns, emit)
            for action in next_actions(run):
                if isinstance(action, Build) and action.attempt_id in waiting:
                    continue
                if isinstance(action, StepAction) and action not in in_progress:
                    to_cancel = _pop_steps_to_cancel(action, in_progress)
                    in_progress[action] = asyncio.ensure_future(_run_step(action, dispatch, to_cancel))
            if not in_progress:
                return run
            await asyncio.wait(in_progress.values(), return_when=asyncio.FIRST_COMPLETED)
            for action, task in list(in_progress.items()):
                if task.done():
                    del in_progress[action]
                    task.result()
    finally:
        for task in in_progress.values():
            task.cancel()
        await asyncio.gather(*in_progress.values(), return_exceptions=True)


def _pop_steps_to_cancel(action: StepAction, in_progress: dict[Action, asyncio.Task[None]]) -> list[asyncio.Task[None]]:
    """Remove the steps of an attempt to cancel from `in_progress` and return them: `_run_step` waits for their end."""
    if not isinstance(action, Cancel):
        return []
    steps = [Send(action.attempt_id), Build(action.attempt_id), Push(action.attempt_id)]
    return [in_progress.pop(step) for step in steps if step in in_progress]


async def _run_step(action: StepAction, dispatch: Dispatch, to_cancel: Sequence[asyncio.Task[None]]) -> None:
    """Cancel the steps that were given up, wait for their end, then carry out the action."""
    for task in to_cancel:
        task.cancel()
    for ended in await asyncio.gather(*to_cancel, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
    await dispatch(action)


def _commit_decisions(
    run: Run,
    store: Store,
    candidates: Mapping[Platform, Sequence[Candidate]],
    slots: Mapping[str, int],
    emit: Emit,
) -> Run:
    """Commit decisions that need no step until there are none; return the run as it is then."""
    while True:
        is_changed = _settle_ended(run, store, emit) or _lose(unassignable(run, candidates), store)
        if not is_changed:
            _assign(run, store, candidates, slots, emit)
            return store.run(run.id)
        run = store.run(run.id)


def _settle_ended(run: Run, store: Store, emit: Emit) -> bool:
    decided = False
    for action in next_actions(run):
        match action:
            case SettleJob(job_id, event):
                store.move_job(job_id, event)
                if event is JobEvent.SKIP:
                    emit(Skipped(run.job(job_id).platform, run.why_stopped))
                decided = True
            case SettleTarget(event):
                store.move_target(run.id, event)
                decided = True
            case Assign() | Send() | Build() | Push() | Verify() | Cancel() | Publish():
                pass
    return decided


def _lose(jobs: Sequence[Job], store: Store) -> bool:
    for job in jobs:
        store.move_job(job.id, JobEvent.LOSE)
    return bool(jobs)


def _assign(
    run: Run,
    store: Store,
    candidates: Mapping[Platform, Sequence[Candidate]],
    slots: Mapping[str, int],
    emit: Emit,
) -> None:
    for assignment in assign(run, candidates, slots):
        chosen = assignment.candidate
        attempt = store.assign(assignment.job_id, chosen.host, chosen.mode)
        platform = run.job(assignment.job_id).platform
        again = f" (attempt {attempt.number})" if attempt.number > 1 else ""
        emit(Assigned(Place(platform=platform, host=chosen.host, mode=chosen.mode), f"assigned{again}"))


def _report_waiting(run: Run, reported: set[int], emit: Emit) -> None:
    for action in next_actions(run):
        if isinstance(action, Assign) and action.job_id not in reported:
            reported.add(action.job_id)
            emit(Waiting(run.job(action.job_id).platform, "every host that can build it is busy with this run"))


def _report_turns(run: Run, waiting: Mapping[int, Sequence[Job]], reported: set[int], emit: Emit) -> None:
    if run.stopped_by is not None:
        return
    for job in run.jobs:
        if job.attempt and job.attempt.id in waiting and job.attempt.id not in reported:
            reported.add(job.attempt.id)
            first = ", ".join(str(builder.platform) for builder in waiting[job.attempt.id])
            emit(Waiting(job.platform, f"{job.attempt.host} builds {first} first"))
