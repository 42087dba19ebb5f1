"""End an attempt as failed, lost or cancelled: commit it, emit it with its last log lines, delete it on its host."""

from __future__ import annotations

import asyncio
import contextlib

from coordinator.domain.causes import Fault, rule
from coordinator.domain.placement.schedule import is_tried_again
from coordinator.domain.run.build_log import StepReader
from coordinator.domain.run.events import AttemptEnded, Kept, Notice
from coordinator.domain.run.states import AttemptEvent, AttemptState, JobEvent
from coordinator.errors import ArchloomError
from coordinator.run.context import AttemptContext

_FORGET_TIMEOUT_S = 20.0


async def failed(ctx: AttemptContext, code: str, message: str, steps: StepReader | None = None) -> None:
    """End the attempt as FAILED: a fault of the Dockerfile, or a result that differs from the request."""
    await _end(ctx, AttemptEvent.FAIL, code, message, steps)


async def lost(
    ctx: AttemptContext, code: str, message: str, steps: StepReader | None = None, *, hint: str = ""
) -> None:
    """End the attempt as LOST: a fault of a host, the network, an engine, a disk, an emulator or a registry.

    An image that is built, and only its registry fails, stays on its host: the job ends without it.
    """
    if rule(code).fault is Fault.REGISTRY and not ctx.attempt.is_unbuilt:
        keep(ctx, code, message)
        if hint:
            ctx.run.emit(Notice(hint))
        return
    await _end(ctx, AttemptEvent.LOSE, code, message, steps)


def keep(ctx: AttemptContext, code: str, message: str, event: JobEvent = JobEvent.LOSE) -> None:
    """End the job, and leave its image on the host: `archloom retry` takes it over, within `keep_built`."""
    attempt = ctx.run.attempt(ctx.attempt.id).attempt
    if attempt.state is not AttemptState.BUILT:
        ctx.run.store.move_attempt(attempt.id, AttemptEvent.PUSH_LOST, code=code, message=message)
    ctx.run.store.move_job(ctx.job.id, event)
    ctx.run.emit(Kept(place=ctx.place, code=code, message=message))


async def cancelled(ctx: AttemptContext) -> None:
    await _end(ctx, AttemptEvent.CANCEL, "", "cancelled", None)


async def forget(ctx: AttemptContext) -> None:
    """Delete everything of the attempt on its host. If the host does not answer, the next run on it sweeps it."""
    with contextlib.suppress(ArchloomError, TimeoutError):
        async with asyncio.timeout(_FORGET_TIMEOUT_S):
            client = await ctx.client()
            await client.forget(ctx.agent_job)


def begin_to_forget(ctx: AttemptContext) -> None:
    """Forget the attempt while the run goes on: its result is safe in the registry, and the tags need not wait."""
    ctx.run.deletions.begin(ctx.host, forget(ctx))


async def _end(
    ctx: AttemptContext,
    event: AttemptEvent,
    code: str,
    message: str,
    steps: StepReader | None,
) -> None:
    record_end(ctx, event, code, message, steps)
    if not rule(code).may_return:
        await forget(ctx)
    else:
        tell_that_it_may_go_on(ctx)


def tell_that_it_may_go_on(ctx: AttemptContext) -> None:
    """Emit that a host which does not answer may still have the job. It is swept when it answers, or by a later run.

    A job that was never sent whole is not there.
    """
    if ctx.attempt.is_unbuilt and ctx.attempt.state is not AttemptState.BUILDING:
        return
    what = "still build" if ctx.attempt.is_unbuilt else "still have the image of"
    text = f"{ctx.host} does not answer: it may {what} {ctx.job.platform}, until a run reaches it again"
    ctx.run.emit(Notice(text))


def record_end(
    ctx: AttemptContext,
    event: AttemptEvent,
    code: str,
    message: str,
    steps: StepReader | None = None,
) -> None:
    """Commit the end and emit it, without a request to the host."""
    state = ctx.run.store.move_attempt(ctx.attempt.id, event, code=code, message=message)
    stored = ctx.run.store.run(ctx.run.run_id)
    ctx.run.emit(
        AttemptEnded(
            place=ctx.place,
            state=state,
            code=code,
            message=message,
            step=steps.failing_step if steps else "",
            tail=steps.tail(message) if steps else (),
            again=is_tried_again(stored, ctx.job.id, ctx.run.hosts.candidates),
        )
    )
