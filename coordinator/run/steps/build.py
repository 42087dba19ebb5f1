"""The build step: start the detached job once a slot is free, follow its log, commit its result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from coordinator.domain.causes import Cause
from coordinator.domain.placement.schedule import free_elsewhere
from coordinator.domain.run.build_log import LineKind, LogLine, StepReader
from coordinator.domain.run.events import StepLine, Waiting
from coordinator.domain.run.old_frontend import explained
from coordinator.domain.run.states import AttemptEvent
from coordinator.errors import LostError
from coordinator.hosts.agent.client import AgentClient
from coordinator.hosts.agent.error_codes import HostBusyError
from coordinator.hosts.agent.replies import Ended, EndState
from coordinator.run.context import AttemptContext
from coordinator.run.inputs.gather import InputsGone
from coordinator.run.steps.attempt_end import cancelled, failed, lost
from coordinator.run.steps.phases import phase
from coordinator.run.steps.reach import on_host
from coordinator.state.logs import kept_log, log_path

_SLOT_POLL_S = 1.0
# How long to wait for a slot while another host has one.
_SLOT_PATIENCE_S = 60.0
# The title of BuildKit's last step.
_EXPORT = "exporting to"


async def build(ctx: AttemptContext) -> None:
    """Take the attempt from BUILDING to its end on the host. Idempotent: a running job is not started again."""
    log_steps = StepReader()
    try:
        await on_host(ctx, lambda client: _start(ctx, client))
        with phase(ctx, "build"):
            ended = await _follow(ctx, log_steps)
    except LostError as error:
        await lost(ctx, error.code or Cause.CONNECTION, error.message)
        return
    await _settle(ctx, ended, log_steps)


async def _start(ctx: AttemptContext, client: AgentClient) -> None:
    """Start the job as soon as a slot is free; emit the holder of the slot whenever it changes.

    Raises LostError `slot` where no slot is free for a minute, and another host has one.
    """
    slots = ctx.run.farm.slots_of(ctx.host)
    time = asyncio.get_running_loop().time
    holder, began = "", time()
    while True:
        try:
            await client.start(ctx.agent_job, holder=f"{ctx.run.env.holder} {ctx.agent_job}", slots=slots)
        except HostBusyError as busy:
            if busy.holder != holder:
                holder = busy.holder
                ctx.run.emit(Waiting(ctx.job.platform, f"{ctx.host} is held by {_holder(ctx, busy)}"))
            if time() - began >= _SLOT_PATIENCE_S and _is_free_elsewhere(ctx):
                raise LostError(f"{ctx.host} is held by {_holder(ctx, busy)}", code=Cause.SLOT) from busy
            await asyncio.sleep(_SLOT_POLL_S)
        else:
            return


def _is_free_elsewhere(ctx: AttemptContext) -> bool:
    hosts = ctx.run.hosts
    stored = ctx.run.store.run(ctx.run.run_id)
    return free_elsewhere(stored, ctx.attempt, hosts.candidates, hosts.slots, hosts.away)


def _holder(ctx: AttemptContext, busy: HostBusyError) -> str:
    holder = busy.holder or "another archloom"
    if not busy.since:
        return holder
    host_time = ctx.run.env.clock() + (ctx.facts.clock_offset or 0.0)
    return f"{holder} for {max(0.0, host_time - busy.since):.0f} s"


async def _follow(ctx: AttemptContext, log_steps: StepReader) -> Ended:
    """Follow the log to the end of the job; return the result. A lost connection is reopened, and the log continues."""
    path = log_path(ctx.run.env.state, ctx.run.run_id, ctx.job.platform, ctx.attempt.number)
    with kept_log(path, ctx.run.emit) as keep:
        reading = _LogReader(ctx, log_steps, keep)
        return await on_host(ctx, reading.to_the_end, "the build may go on there", lasts=True)


@dataclass(slots=True)
class _LogReader:
    """The log of a job and the byte offset read so far, which is 0 also after a resume: the host has the whole log."""

    ctx: AttemptContext
    log_steps: StepReader
    keep: Callable[[str], None]
    offset: int = 0

    async def to_the_end(self, client: AgentClient) -> Ended:
        async with aclosing(client.follow(self.ctx.agent_job, self.offset)) as items:
            async for item in items:
                if isinstance(item, Ended):
                    _emit_lines(self.ctx, self.log_steps.end())
                    return item
                self.offset = item.offset
                self.keep(item.text)
                lines = self.log_steps.feed(item.text)
                _emit_lines(self.ctx, lines)
                if any(line.step.startswith(_EXPORT) for line in lines):
                    # The image is pushed as soon as it is exported.
                    self.ctx.run.farm.open_ahead(self.ctx.host)
        raise LostError(f"{self.ctx.host} closed the log before the job ended", code=Cause.CONNECTION)


def _emit_lines(ctx: AttemptContext, lines: Sequence[LogLine]) -> None:
    for line in lines:
        # The log file has every line; the output omits empty lines and the digests that repeat a step's title.
        decoration = line.kind is LineKind.OTHER and (line.number or not line.text.strip())
        if not decoration:
            ctx.run.emit(StepLine(ctx.place, line.text, line.step))


async def _settle(ctx: AttemptContext, ended: Ended, log_steps: StepReader) -> None:
    match ended.state:
        case EndState.BUILT if ended.platform == ctx.job.platform:
            ctx.run.store.move_attempt(ctx.attempt.id, AttemptEvent.BUILT)
        case EndState.BUILT:
            message = f"the engine built {ended.platform}, expected {ctx.job.platform}"
            await failed(ctx, Cause.MISMATCH, message, log_steps)
        case EndState.FAILED:
            await failed(ctx, ended.code, _explained(ctx, ended.message), log_steps)
        case EndState.LOST:
            await lost(ctx, ended.code, ended.message, log_steps)
        case EndState.CANCELLED:
            await cancelled(ctx)


def _explained(ctx: AttemptContext, message: str) -> str:
    """Return the error of the build, with its cause where the engine's own frontend is too old for the Dockerfile."""
    inputs = ctx.run.inputs_or_gone
    facts = ctx.run.farm.facts.get(ctx.host)
    if isinstance(inputs, InputsGone) or inputs.frontend or facts is None or facts.engine is None:
        return message
    return explained(message, facts.engine.version)
