"""Drive a run: read the next actions, carry them out, commit, repeat. A start and a resume are the same call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Protocol

from coordinator.domain.image.platforms import Platform
from coordinator.domain.placement.schedule import Assignment, Candidate, assign, hedges, spare, turns, unassignable
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


class Hosts(Protocol):
    """The hosts of a run, as they are at the time of each look."""

    @property
    def candidates(self) -> Mapping[Platform, Sequence[Candidate]]:
        """The hosts for each platform, best first."""

    @property
    def slots(self) -> Mapping[str, int]:
        """How many jobs of this coordinator a host takes at once."""

    @property
    def away(self) -> Collection[str]:
        """The hosts that do not answer now."""

    @property
    def long_away(self) -> Collection[str]:
        """Those of them whose jobs another host may begin."""

    @property
    def awaited(self) -> Collection[str]:
        """Those of `away` that are waited for."""

    def change(self) -> Coroutine[object, object, None]:
        """Return what ends when one of these may have changed since this call."""


async def drive(run_id: str, store: Store, dispatch: Dispatch, hosts: Hosts, emit: Emit) -> Run:
    """Carry out the actions that the stored state allows until there are none; return the run as it is then.

    `dispatch` carries out a step and commits its outcome before it returns. Any exception that it raises ends the loop:
    the steps in progress are cancelled, and the store has the last committed state of each.
    """
    in_progress: dict[Action, asyncio.Task[None]] = {}
    reported = _Reported(emit)
    change = asyncio.ensure_future(hosts.change())
    try:
        while True:
            # Before the look: a host that is given up during it must wake the loop, and not end it.
            awaited = hosts.awaited
            building = [action.attempt_id for action in in_progress if isinstance(action, Build)]
            run = _commit_decisions(store.run(run_id), store, hosts, building, emit)
            reported.waiting(run, awaited)
            needless = spare(run, building, hosts.away)
            waiting = turns(run, hosts.slots, building, needless)
            reported.turns(run, waiting)
            held_back = {*waiting, *needless}
            actions = next_actions(run)
            for action in actions:
                if isinstance(action, Build) and action.attempt_id in held_back:
                    continue
                if isinstance(action, StepAction) and action not in in_progress:
                    to_cancel = _pop_steps_to_cancel(action, in_progress)
                    in_progress[action] = asyncio.ensure_future(_run_step(action, dispatch, to_cancel))
            is_awaited = awaited and any(isinstance(action, Assign) for action in actions)
            if not in_progress and not is_awaited:
                return run
            await asyncio.wait([*in_progress.values(), change], return_when=asyncio.FIRST_COMPLETED)
            if change.done():
                change.result()
                change = asyncio.ensure_future(hosts.change())
            for action, task in list(in_progress.items()):
                if task.done():
                    del in_progress[action]
                    task.result()
    finally:
        for task in (*in_progress.values(), change):
            task.cancel()
        await asyncio.gather(*in_progress.values(), change, return_exceptions=True)


def _pop_steps_to_cancel(action: StepAction, in_progress: dict[Action, asyncio.Task[None]]) -> list[asyncio.Task[None]]:
    """Remove the steps of an attempt to cancel from `in_progress` and return them: `_run_step` waits for their end."""
    if not isinstance(action, Cancel):
        return []
    attempt = action.attempt_id
    steps = [Send(attempt), Build(attempt), Push(attempt), Verify(attempt)]
    return [in_progress.pop(step) for step in steps if step in in_progress]


async def _run_step(action: StepAction, dispatch: Dispatch, to_cancel: Sequence[asyncio.Task[None]]) -> None:
    """Cancel the steps that were given up, wait for their end, then carry out the action."""
    for task in to_cancel:
        task.cancel()
    for ended in await asyncio.gather(*to_cancel, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
    await dispatch(action)


def _commit_decisions(run: Run, store: Store, hosts: Hosts, building: Sequence[int], emit: Emit) -> Run:
    """Commit decisions that need no step until there are none; return the run as it is then.

    `building` are the ids of the attempts that build.
    """
    while True:
        is_changed = _settle_ended(run, store, emit) or _lose(unassignable(run, hosts.candidates), store)
        if not is_changed:
            _assign(run, store, hosts, building, emit)
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


def _assign(run: Run, store: Store, hosts: Hosts, building: Sequence[int], emit: Emit) -> None:
    candidates, slots = hosts.candidates, hosts.slots
    needless = spare(run, building, hosts.away)
    for assignment in assign(run, candidates, slots, hosts.away, needless):
        _add_attempt(run, assignment, store, emit)
    run = store.run(run.id)
    waiting = turns(run, slots, building, needless)
    for assignment in hedges(run, candidates, slots, hosts.long_away, waiting):
        first = run.job(assignment.job_id).live[0]
        builds = ", ".join(str(job.platform) for job in waiting.get(first.id, ()))
        why = f"{first.host} builds {builds} first" if builds else f"no answer from {first.host}"
        _add_attempt(run, assignment, store, emit, f", {why}")


def _add_attempt(run: Run, assignment: Assignment, store: Store, emit: Emit, why: str = "") -> None:
    chosen = assignment.candidate
    attempt = store.assign(assignment.job_id, chosen.host, chosen.mode)
    platform = run.job(assignment.job_id).platform
    again = f" (attempt {attempt.number}{why})" if attempt.number > 1 else ""
    emit(Assigned(Place(platform=platform, host=chosen.host, mode=chosen.mode), f"assigned{again}"))


class _Reported:
    """What was emitted of waiting jobs: each wait once."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._jobs: set[tuple[int, str]] = set()
        self._turns: set[int] = set()

    def waiting(self, run: Run, awaited: Collection[str]) -> None:
        """Emit which jobs wait for a host. `awaited` are the hosts that do not answer and are waited for."""
        reason = "every host that can build it is busy with this run"
        if awaited:
            reason = f"{', '.join(sorted(awaited))} does not answer, and no other host is free for it"
        for action in next_actions(run):
            if isinstance(action, Assign) and (action.job_id, reason) not in self._jobs:
                self._jobs.add((action.job_id, reason))
                self._emit(Waiting(run.job(action.job_id).platform, reason))

    def turns(self, run: Run, waiting: Mapping[int, Sequence[Job]]) -> None:
        """Emit which jobs wait for their turn on a host; `waiting` has those that build there first, by attempt."""
        if run.stopped_by is not None:
            return
        for job in run.jobs:
            for attempt in job.live:
                if attempt.id in waiting and attempt.id not in self._turns:
                    self._turns.add(attempt.id)
                    first = ", ".join(str(builder.platform) for builder in waiting[attempt.id])
                    self._emit(Waiting(job.platform, f"{attempt.host} builds {first} first"))
