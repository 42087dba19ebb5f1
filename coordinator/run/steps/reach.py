"""Work with the host of an attempt, also where the connection is lost meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from coordinator import deadlines
from coordinator.domain.causes import rule
from coordinator.domain.run.events import CONNECTION_LOST, NO_ANSWER, Phase
from coordinator.errors import LostError
from coordinator.hosts.agent.client import AgentClient
from coordinator.run.context import AttemptContext

T = TypeVar("T")

# A connection that is lost so often, while nothing comes of it, does not carry the work.
_MAX_FRUITLESS = 3
# Work that lasts is fruitless where the connection is lost again so soon.
_SHORT_S = 30.0
# How often to look whether engine and disk of the host answer; for how long they may be silent before it is said, and
# how often it is said.
_LOOK_S, _SILENCE_S, _LINE_S = 1.0, deadlines.SILENCE, 10.0
# How often, and for how long each time, work that was cancelled may go on: Ctrl-C ends within 5 s.
_MAX_CANCELS, _CANCEL_S = 3, 0.3


async def on_host(
    ctx: AttemptContext, work: Callable[[AgentClient], Awaitable[T]], meanwhile: str = "", *, lasts: bool = False
) -> T:
    """Do `work` with the agent of the attempt's host; where the connection is lost, wait for the host and repeat it.

    `work` must be safe to repeat; `meanwhile` says what goes on there without a connection; `lasts`: it may last for
    long without a byte. Raises what `work` raises, and LostError where the host is away for longer than its
    `reconnect_for`, or the connection is lost three times while nothing comes of it.
    """
    fruitless = 0
    while True:
        client = await _reached(ctx, meanwhile)
        began, percent = time.monotonic(), ctx.run.push_percents.get(ctx.attempt.id)
        try:
            return await _watched(ctx, client, work)
        except LostError as error:
            if not rule(error.code).may_return:
                raise
            is_fruitful = ctx.run.push_percents.get(ctx.attempt.id) != percent
            is_fruitful |= lasts and time.monotonic() - began >= _SHORT_S
            fruitless = 0 if is_fruitful else fruitless + 1
            if fruitless == _MAX_FRUITLESS:
                raise
            ctx.run.farm.miss(ctx.host, error)


async def _watched(ctx: AttemptContext, client: AgentClient, work: Callable[[AgentClient], Awaitable[T]]) -> T:
    """Do `work`, and say when the host's engine or disk gives no answer meanwhile, or sends no byte of an image.

    Raises LostError `engine` or `disk` where it gives no answer for `reconnect_for`, or for 20 s where that is shorter.
    """
    patience = max(ctx.run.farm.hosts[ctx.host].reconnect_for, _SILENCE_S)
    doing, told_at = asyncio.ensure_future(work(client)), 0.0
    try:
        while not doing.done():
            await asyncio.wait({doing}, timeout=_LOOK_S)
            silence, part = max((client.engine_silence, "engine"), (client.disk_silence, "disk"))
            if silence >= patience and not doing.done():
                raise LostError(f"host '{ctx.host}': its {part} has not answered for {silence:.0f} s", code=part)
            text = f"its {part} has not answered for {silence:.0f} s, given up in {patience - silence:.0f} s"
            idle = _idle(ctx)
            if idle > silence:
                silence, text = idle, f"it has moved no byte of the image for {idle:.0f} s"
            ctx.run.hosts.mark_silent(ctx.host, ctx.attempt.id, silent=silence >= _SILENCE_S)
            told_at = told_at if silence >= told_at else 0.0
            if silence >= max(_SILENCE_S, told_at + _LINE_S):
                told_at = silence
                ctx.run.emit(Phase(ctx.place, NO_ANSWER, text))
        return doing.result()
    finally:
        await _end(doing)
        ctx.run.hosts.mark_silent(ctx.host, ctx.attempt.id, silent=False)


async def _end(doing: asyncio.Future[T]) -> None:
    """Cancel the work and wait for its end; where it waits for a host that is gone, cancel that too."""
    for _ in range(_MAX_CANCELS):
        doing.cancel()
        ended, _ = await asyncio.wait({doing}, timeout=_CANCEL_S)
        if ended:
            break
    if doing.done() and not doing.cancelled():
        doing.exception()


def _idle(ctx: AttemptContext) -> float:
    """Return for how many seconds the host has moved no byte of an image that is pushed or pulled."""
    last_byte = ctx.run.last_bytes.get(ctx.attempt.id)
    return time.monotonic() - last_byte() if last_byte else 0.0


async def _reached(ctx: AttemptContext, meanwhile: str) -> AgentClient:
    is_told = False

    def tell(seconds: float) -> None:
        nonlocal is_told
        going_on = "" if is_told or not meanwhile else f"{meanwhile}; "
        is_told = True
        ctx.run.emit(Phase(ctx.place, CONNECTION_LOST, f"{going_on}trying to reach it again, {seconds:.0f} s left"))

    client = await ctx.run.farm.reach(ctx.host, tell)
    if is_told:
        ctx.run.emit(Phase(ctx.place, CONNECTION_LOST, "reached again"))
    return client
