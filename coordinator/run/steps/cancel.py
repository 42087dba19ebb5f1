"""The cancel step: commit the end to the store first, then end the jobs on their hosts."""

from __future__ import annotations

import asyncio
import contextlib

from coordinator.domain.run import states
from coordinator.domain.run.states import AttemptEvent, JobEvent, TargetEvent
from coordinator.errors import ArchloomError
from coordinator.run.context import AttemptContext, RunContext
from coordinator.run.steps.attempt_end import forget, record_end

_CANCEL_TIMEOUT_S = 20.0


async def cancel_run(run: RunContext) -> None:
    """Cancel every open attempt and job of the run.

    If a host does not answer in time, its jobs are deleted by the next run that uses it.
    """
    stored = run.store.run(run.run_id)
    live = [
        AttemptContext(run=run, job=job, attempt=attempt)
        for job in stored.jobs
        for attempt in job.attempts
        if not states.ended(attempt.state) and not states.ended(job.state)
    ]
    for ctx in live:
        record_end(ctx, AttemptEvent.CANCEL, "", "cancelled")
    for job in stored.jobs:
        if not states.ended(job.state):
            run.store.move_job(job.id, JobEvent.CANCEL)
    if not states.ended(stored.target_state):
        run.store.move_target(stored.id, TargetEvent.GIVE_UP)
    await asyncio.gather(*map(_cancel_on_host, live))


async def cancel(ctx: AttemptContext) -> None:
    """End an attempt that is no longer wanted, and delete it on its host. Idempotent."""
    if ctx.attempt.on_its_host:
        record_end(ctx, AttemptEvent.CANCEL, "", ctx.run.store.run(ctx.run.run_id).why_stopped)
        await _cancel_on_host(ctx)


async def _cancel_on_host(ctx: AttemptContext) -> None:
    # Ignore errors: the job may be lost with its host or never have started, and the store has its end already.
    with contextlib.suppress(ArchloomError, TimeoutError):
        async with asyncio.timeout(_CANCEL_TIMEOUT_S):
            client = await ctx.client()
            await client.cancel(ctx.agent_job)
    await forget(ctx)
