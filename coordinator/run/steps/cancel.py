"""Stopping a run before its end: the store says so first, then what still runs on hosts is ended there."""

from __future__ import annotations

import asyncio
import contextlib

from coordinator.domain.run import states
from coordinator.domain.run.job_names import agent_job
from coordinator.domain.run.model import Attempt, Job
from coordinator.domain.run.states import AttemptEvent, JobEvent, TargetEvent
from coordinator.errors import ArchloomError
from coordinator.run.context import Loom
from coordinator.run.steps.attempt_end import forget, write_down

_PATIENCE_S = 20.0


async def stop(loom: Loom) -> None:
    """Leaves nothing under way. A host that does not answer in time keeps its job's folder until it is next used."""
    run = loom.store.run(loom.run_id)
    live = [
        (job, attempt)
        for job in run.jobs
        for attempt in job.attempts
        if not states.ended(attempt.state) and not states.ended(job.state)
    ]
    for job, attempt in live:
        write_down(loom, job, attempt, AttemptEvent.CANCEL, "", "cancelled")
    for job in run.jobs:
        if not states.ended(job.state):
            loom.store.move_job(job.id, JobEvent.CANCEL)
    if not states.ended(run.target_state):
        loom.store.move_target(run.id, TargetEvent.GIVE_UP)
    await asyncio.gather(*(_clear(loom, job, attempt) for job, attempt in live))


async def cancel(loom: Loom, attempt_id: int) -> None:
    """Takes an attempt that nobody needs any more to its end, and leaves nothing of it. Safe to repeat."""
    run, job, attempt = loom.find(attempt_id)
    if attempt.on_its_host:
        write_down(loom, job, attempt, AttemptEvent.CANCEL, "", run.why_stopped)
        await _clear(loom, job, attempt)


async def _clear(loom: Loom, job: Job, attempt: Attempt) -> None:
    # Lost with its host, or never begun there: either way it is over for this run.
    with contextlib.suppress(ArchloomError, TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            client = await loom.farm.client(attempt.host)
            await client.cancel(agent_job(loom.run_id, job, attempt))
    await forget(loom, job, attempt)
