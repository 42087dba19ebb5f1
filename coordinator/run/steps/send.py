"""The send step: transfer the job's spec, the context and the bases to the host."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from coordinator.domain.causes import Cause
from coordinator.domain.run.events import SENT_SO_FAR, Phase, Waiting
from coordinator.domain.run.registry_trouble import RegistryUse
from coordinator.domain.run.states import AttemptEvent, AttemptState, ended
from coordinator.errors import ArchloomError, LostError, RegistryError
from coordinator.hosts.agent.client import AgentClient
from coordinator.hosts.agent.context import MissingFiles
from coordinator.parallel import in_parallel
from coordinator.run.context import AttemptContext
from coordinator.run.registry_patience import persist
from coordinator.run.steps.attempt_end import lost
from coordinator.run.steps.image_transfer import bases_in
from coordinator.run.steps.job_spec import JobBase, has_context, job_bases, spec
from coordinator.run.steps.phases import phase
from coordinator.run.steps.reach import on_host

# How long a transfer may go on without a line.
_LINE_S = 3.0
_POLL_S = 1.0


async def send(ctx: AttemptContext) -> None:
    """Take the attempt from ASSIGNED to BUILDING. Idempotent: repeated transfers replace content by the same."""
    if ctx.attempt.state is AttemptState.ASSIGNED:
        ctx.run.store.move_attempt(ctx.attempt.id, AttemptEvent.SEND)
    try:
        await on_host(ctx, lambda client: with_room(ctx, lambda: _send(ctx, client)))
    except RegistryError as error:
        await lost(ctx, Cause.REGISTRY, error.message)
    except LostError as error:
        await lost(ctx, error.code or Cause.CONNECTION, error.message)
    else:
        ctx.run.store.move_attempt(ctx.attempt.id, AttemptEvent.SENT)


async def with_room(ctx: AttemptContext, transfer: Callable[[], Awaitable[None]]) -> None:
    """Do the transfer. Where the disk has no room for it beside this run's earlier jobs there, repeat it after these.

    Raises what `transfer` raises.
    """
    try:
        await transfer()
    except LostError as error:
        if error.code != Cause.DISK or not _is_beside_others(ctx):
            raise
        ctx.run.emit(Waiting(ctx.job.platform, f"{ctx.host} has no room for it beside what it builds"))
        while _is_beside_others(ctx):  # noqa: ASYNC110 - the store tells nobody of a change
            await asyncio.sleep(_POLL_S)
        await transfer()


def _is_beside_others(ctx: AttemptContext) -> bool:
    """Whether this run has something there of an attempt that began before this one, or deletes it now."""
    return ctx.run.deletions.are_under_way(ctx.host) or any(
        attempt.host == ctx.host and attempt.id < ctx.attempt.id
        for job in ctx.run.store.run(ctx.run.run_id).jobs
        for attempt in job.live
        if not ended(job.state)
    )


async def _send(ctx: AttemptContext, client: AgentClient) -> None:
    bases = job_bases(ctx.run.inputs, ctx.job.platform, ctx.facts.native)
    await client.create(ctx.agent_job, spec(ctx, bases))
    transfers = [_context(ctx, client)] if has_context(ctx) else []
    transfers += [_bases(ctx, bases)] if bases else []
    # In parallel: both transfers spend most of their time on round trips.
    await in_parallel(*transfers)


async def _context(ctx: AttemptContext, client: AgentClient) -> None:
    progress = _ContextProgress(ctx)
    with phase(ctx, "context"):
        offer = await ctx.run.inputs.contexts[ctx.job.platform].offer.get()
        objects = await asyncio.to_thread(offer.enclosed)
        if objects is not None:
            await client.send_enclosed(ctx.agent_job, offer, objects, progress.begin)
            return
        # To the `local` host, compression costs more time than it saves.
        pack = not ctx.run.farm.hosts[ctx.host].address.is_local
        await client.send_context(ctx.agent_job, offer, progress.begin, pack=pack, progress=progress.sent)


async def _bases(ctx: AttemptContext, bases: tuple[JobBase, ...]) -> None:
    async def bring() -> None:
        with phase(ctx, "base", ", ".join(dict.fromkeys(base.use.text for base in bases))):
            await bases_in(ctx, bases, lambda text: ctx.run.emit(Phase(ctx.place, "base", text)))

    use = RegistryUse(
        name=f"bases {ctx.attempt.id}", registry=bases[0].reference.registry, platforms=(ctx.job.platform,)
    )
    try:
        await persist(ctx.run, use, bring)
    except ArchloomError as error:
        raise _as_registry_error(error) from error


class _ContextProgress:
    """Emit how much of the context the host lacks, then every 3 s how far that is sent, and how quickly."""

    def __init__(self, ctx: AttemptContext) -> None:
        self._ctx = ctx
        self._began = self._told_at = ctx.run.env.clock()
        self._total = 0

    def begin(self, lacking: MissingFiles) -> None:
        self._total = lacking.bytes
        self._began = self._told_at = self._ctx.run.env.clock()
        self._ctx.run.emit(Phase(self._ctx.place, "context", _amount(lacking)))

    def sent(self, done: int) -> None:
        now = self._ctx.run.env.clock()
        if self._total and now - self._told_at >= _LINE_S:
            self._told_at = now
            rate = done / (now - self._began) / 1e6
            text = f"{SENT_SO_FAR}{100 * done // self._total} % of {self._total / 1e6:.1f} MB, {rate:.1f} MB/s"
            self._ctx.run.emit(Phase(self._ctx.place, "context", text))


def _amount(lacking: MissingFiles) -> str:
    return f"{lacking.files} of {lacking.of} files, {lacking.bytes / 1e6:.1f} MB"


def _as_registry_error(error: ArchloomError) -> ArchloomError:
    """Return the error as a RegistryError, unless it is a LostError.

    A wrong inventory entry for a base's registry must end this job only, not the run.
    """
    return error if isinstance(error, LostError) else RegistryError(error.message, hint=error.hint, code=error.code)
