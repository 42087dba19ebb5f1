"""Drive a run: read the next actions, carry them out, commit, repeat. A start and a resume are the same call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from coordinator.domain.image.platforms import Platform
from coordinator.domain.placement.schedule import Candidate, assign, unassignable
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

Work = Send | Build | Push | Verify | Cancel | Publish
Dispatch = Callable[[Work], Awaitable[None]]


async def drive(
    run_id: str,
    store: Store,
    perform: Dispatch,
    candidates: Mapping[Platform, Sequence[Candidate]],
    slots: Mapping[str, int],
    emit: Emit,
) -> Run:
    """Carry out the actions that the stored state allows until there are none; return the run as it is then.

    `perform` commits the outcome of its action before it returns. Any exception that it raises ends the drive: the
    actions under way are cancelled, and the store has the last committed state of each.
    """
    under_way: dict[Action, asyncio.Task[None]] = {}
    reported: set[int] = set()
    try:
        while True:
            run = _decide(store.run(run_id), store, candidates, slots, emit)
            _report_waiting(run, reported, emit)
            for action in next_actions(run):
                if isinstance(action, Work) and action not in under_way:
                    given_up = _pop_given_up(action, under_way)
                    under_way[action] = asyncio.ensure_future(_perform(action, perform, given_up))
            if not under_way:
                return run
            await asyncio.wait(under_way.values(), return_when=asyncio.FIRST_COMPLETED)
            for action, task in list(under_way.items()):
                if task.done():
                    del under_way[action]
                    task.result()
    finally:
        for task in under_way.values():
            task.cancel()
        await asyncio.gather(*under_way.values(), return_exceptions=True)


def _pop_given_up(action: Work, under_way: dict[Action, asyncio.Task[None]]) -> list[asyncio.Task[None]]:
    """Remove the steps of an attempt to cancel from `under_way` and return them: `_perform` waits for their end."""
    if not isinstance(action, Cancel):
        return []
    steps = [Send(action.attempt_id), Build(action.attempt_id), Push(action.attempt_id)]
    return [under_way.pop(step) for step in steps if step in under_way]


async def _perform(action: Work, perform: Dispatch, given_up: Sequence[asyncio.Task[None]]) -> None:
    """Cancel the steps that were given up, wait for their end, then carry out the action."""
    for task in given_up:
        task.cancel()
    for ended in await asyncio.gather(*given_up, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
    await perform(action)


def _decide(
    run: Run,
    store: Store,
    candidates: Mapping[Platform, Sequence[Candidate]],
    slots: Mapping[str, int],
    emit: Emit,
) -> Run:
    """Commit decisions that need no step until there are none; return the run as it is then."""
    while True:
        if not (_settle(run, store, emit) or _lose(unassignable(run, candidates), store)):
            _assign(run, store, candidates, slots, emit)
            return store.run(run.id)
        run = store.run(run.id)


def _settle(run: Run, store: Store, emit: Emit) -> bool:
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
            emit(Waiting(run.job(action.job_id).platform, "every host that could take it is busy with this run"))
