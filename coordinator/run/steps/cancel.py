"""The cancel step: commit the end to the store first, then end the work on the hosts. What is built is kept."""

from __future__ import annotations

import asyncio
import contextlib

from coordinator.domain.run import states
from coordinator.domain.run.states import AttemptEvent, AttemptState, JobEvent, TargetEvent
from coordinator.errors import ArchloomError
from coordinator.run.context import AttemptContext, RunContext
from coordinator.run.steps.attempt_end import begin_to_forget, forget, keep, record_end, tell_that_it_may_go_on

# For all hosts together. A host that has the request by then carries it out on its own.
_CANCEL_TIMEOUT_S = 3.0
_BUILT = (AttemptState.BUILT, AttemptState.PUSHING, AttemptState.PUSHED)


async def cancel_run(run: RunContext) -> None:
    """Cancel every open attempt and job of the run; an image that is built stays on its host.

    If a host does not answer in time, the next run that uses it deletes its jobs.
    """
    stored = run.store.run(run.run_id)
    live = [AttemptContext(run=run, job=job, attempt=attempt) for job in stored.jobs for attempt in job.live]
    unbuilt: list[AttemptContext] = []
    kept: list[AttemptContext] = []
    for ctx in live:
        if ctx.attempt == ctx.job.kept:
            continue
        is_open = not states.ended(ctx.job.state)
        if is_open and ctx.attempt.state in _BUILT and ctx.job.id not in {other.job.id for other in kept}:
            keep(ctx, "", "the run was cancelled", JobEvent.CANCEL)
            kept.append(ctx)
        else:
            record_end(ctx, AttemptEvent.CANCEL, "", "cancelled")
            unbuilt.append(ctx)
            if ctx.host in run.hosts.away:
                tell_that_it_may_go_on(ctx)
    for job in stored.jobs:
        if not states.ended(job.state):
            run.store.move_job(job.id, JobEvent.CANCEL)
    if not states.ended(stored.target_state):
        run.store.move_target(stored.id, TargetEvent.GIVE_UP)
    pushing = [ctx for ctx in kept if ctx.attempt.state is AttemptState.PUSHING]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CANCEL_TIMEOUT_S):
            await asyncio.gather(*map(forget, unbuilt), *map(_stop_push, pushing))
    if unbuilt or pushing:
        run.farm.hurry()


async def cancel(ctx: AttemptContext) -> None:
    """End an attempt that is no longer wanted, and begin to delete it on its host. Idempotent.

    Where another job stopped the run, an image that is being pushed is kept.
    """
    if not ctx.attempt.is_live:
        return
    if ctx.attempt.state is AttemptState.PUSHING and not states.ended(ctx.job.state):
        keep(ctx, "", ctx.run.store.run(ctx.run.run_id).why_stopped, JobEvent.CANCEL)
        await _stop_push(ctx)
        return
    stored = ctx.run.store.run(ctx.run.run_id)
    record_end(ctx, AttemptEvent.CANCEL, "", stored.why_stopped or f"{ctx.job.platform} is {ctx.job.state} already")
    if ctx.host in ctx.run.hosts.away:
        tell_that_it_may_go_on(ctx)
    else:
        begin_to_forget(ctx)


async def _stop_push(ctx: AttemptContext) -> None:
    with contextlib.suppress(ArchloomError, TimeoutError):
        async with asyncio.timeout(_CANCEL_TIMEOUT_S):
            await (await ctx.client()).cancel(ctx.agent_job)
