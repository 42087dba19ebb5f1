"""Drives a run: ask what may be done, do it, commit, ask again. Starting and resuming are the same call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from coordinator.domain.image.platforms import Platform
from coordinator.domain.placement.schedule import Candidate, assign, hopeless
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
    """Does what the stored state allows until it allows nothing more, and returns the run as it is then.

    `perform` commits the outcome of its action before it returns. What it raises ends the run here and now: the
    actions still under way are cancelled, and the store says where each of them was.
    """
    under_way: dict[Action, asyncio.Task[None]] = {}
    reported: set[int] = set()
    try:
        while True:
            run = _decide(store.run(run_id), store, candidates, slots, emit)
            _tell_who_waits(run, reported, emit)
            for action in next_actions(run):
                if isinstance(action, Work) and action not in under_way:
                    given_up = _given_up(action, under_way)
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


def _given_up(action: Work, under_way: dict[Action, asyncio.Task[None]]) -> list[asyncio.Task[None]]:
    """The work on an attempt that is cancelled, which is no longer under way: whoever cancels it sees to its end."""
    if not isinstance(action, Cancel):
        return []
    works = [Send(action.attempt_id), Build(action.attempt_id), Push(action.attempt_id)]
    return [under_way.pop(work) for work in works if work in under_way]


async def _perform(action: Work, perform: Dispatch, given_up: Sequence[asyncio.Task[None]]) -> None:
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
    """Commits every decision that needs no work, until none is left."""
    while True:
        if not (_settle(run, store, emit) or _lose(hopeless(run, candidates), store)):
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


def _tell_who_waits(run: Run, reported: set[int], emit: Emit) -> None:
    for action in next_actions(run):
        if isinstance(action, Assign) and action.job_id not in reported:
            reported.add(action.job_id)
            emit(Waiting(run.job(action.job_id).platform, "every host that could take it is busy with this run"))
