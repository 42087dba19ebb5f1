"""Work with the host of an attempt, also where the connection is lost meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from coordinator.domain.causes import rule
from coordinator.domain.run.events import CONNECTION_LOST, Phase
from coordinator.errors import LostError
from coordinator.hosts.agent.client import AgentClient
from coordinator.run.context import AttemptContext

T = TypeVar("T")

# A connection that is lost so often, each time within so many seconds, does not carry the work.
_MAX_LOSSES, _SHORT_S = 10, 30.0


async def on_host(ctx: AttemptContext, work: Callable[[AgentClient], Awaitable[T]], meanwhile: str = "") -> T:
    """Do `work` with the agent of the attempt's host; where the connection is lost, wait for the host and repeat it.

    `work` must be safe to repeat; `meanwhile` says what goes on there without a connection. Raises what `work` raises,
    and LostError where the host is away for longer than its `reconnect_for`.
    """
    time, losses = asyncio.get_running_loop().time, 0
    while True:
        client = await _reached(ctx, meanwhile)
        began = time()
        try:
            return await work(client)
        except LostError as error:
            if not rule(error.code).may_return:
                raise
            losses = losses + 1 if time() - began < _SHORT_S else 1
            if losses == _MAX_LOSSES:
                raise


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
