"""How an attempt ends badly: committed, told with its last lines, and nothing of it left on its host."""

from __future__ import annotations

import asyncio
import contextlib

from coordinator.domain.causes import rule
from coordinator.domain.run.build_log import StepReader
from coordinator.domain.run.events import AttemptEnded
from coordinator.domain.run.retry import Verdict, verdict
from coordinator.domain.run.states import AttemptEvent
from coordinator.errors import ArchloomError
from coordinator.run.context import AttemptContext

_PATIENCE_S = 20.0


async def failed(ctx: AttemptContext, code: str, message: str, steps: StepReader | None = None) -> None:
    """The Dockerfile's fault, or a result that is not what was asked."""
    await _end(ctx, AttemptEvent.FAIL, code, message, steps)


async def lost(ctx: AttemptContext, code: str, message: str, steps: StepReader | None = None) -> None:
    """The fault of a host, the network, an engine, a disk, an emulator or a registry."""
    await _end(ctx, AttemptEvent.LOSE, code, message, steps)


async def cancelled(ctx: AttemptContext) -> None:
    await _end(ctx, AttemptEvent.CANCEL, "", "cancelled", None)


async def forget(ctx: AttemptContext) -> None:
    """Nothing of the attempt stays on its host. A host that does not answer now is swept when it is next used."""
    with contextlib.suppress(ArchloomError, TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            client = await ctx.client()
            await client.forget(ctx.agent_job)


async def _end(
    ctx: AttemptContext,
    event: AttemptEvent,
    code: str,
    message: str,
    steps: StepReader | None,
) -> None:
    record_end(ctx, event, code, message, steps)
    # One that is not reached would only be waited for, and is swept when it is next used.
    if not rule(code).may_return:
        await forget(ctx)


def record_end(
    ctx: AttemptContext,
    event: AttemptEvent,
    code: str,
    message: str,
    steps: StepReader | None = None,
) -> None:
    """Commits the end and tells it; the host is not asked."""
    state = ctx.run.store.move_attempt(ctx.attempt.id, event, code=code, message=message)
    codes = (*ctx.job.codes[:-1], code)
    again = event is AttemptEvent.LOSE and verdict(codes) is Verdict.AGAIN
    ctx.run.emit(
        AttemptEnded(
            place=ctx.place,
            state=state,
            code=code,
            message=message,
            step=steps.failing_step if steps else "",
            tail=steps.tail if steps else (),
            again=again and ctx.run.store.run(ctx.run.run_id).stopped_by is None,
        )
    )
