"""Images out of hosts and bases into them: through the tunnel, or as archives where the engine cannot reach it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from coordinator.domain.causes import Cause, rule
from coordinator.domain.run.events import Notice
from coordinator.errors import ArchloomError, LostError
from coordinator.run.context import AttemptContext
from coordinator.run.steps import archive_transfer
from coordinator.run.steps.job_spec import JobBase, known_bases
from coordinator.run.steps.push_errors import reason

T = TypeVar("T")


async def image_out(ctx: AttemptContext, tell: Callable[[int, int], None], *, archive: bool = False) -> str:
    """The digest of what the host built, in the target's first repository, as it came through here.

    `tell` gets bytes done and in all; `archive`: the tunnel is not even tried. Raises LostError, or RegistryError for
    what the registry refused.
    """
    if archive:
        return await archive_transfer.image_out(ctx, tell)
    return await _either(
        ctx,
        lambda: _push(ctx, tell),
        lambda: archive_transfer.image_out(ctx, tell),
    )


async def bases_in(ctx: AttemptContext, bases: Sequence[JobBase], tell: Callable[[str], None]) -> None:
    """Makes the host hold these bases of the job. Raises LostError, or RegistryError for what a registry refused."""
    await _either(
        ctx,
        lambda: _pull(ctx, bases, tell),
        lambda: archive_transfer.bases_in(ctx, bases, tell),
    )


async def _either(ctx: AttemptContext, tunnel: Callable[[], Awaitable[T]], archive: Callable[[], Awaitable[T]]) -> T:
    """A host whose tunnel turns out to lead nowhere uses archives to the end of the run."""
    if not uses_archives(ctx):
        try:
            return await tunnel()
        except LostError as error:
            if not rule(error.code).no_tunnel:
                raise
            if ctx.host not in ctx.run.no_tunnel_hosts:
                ctx.run.no_tunnel_hosts.add(ctx.host)
                ctx.run.emit(Notice(f"{error.message}; images and bases of {ctx.host} are carried as archives"))
    return await archive()


def uses_archives(ctx: AttemptContext) -> bool:
    """Whether no tunnel leads to the engine of this host, as far as is known."""
    return ctx.host in ctx.run.no_tunnel_hosts or not ctx.facts.reaches_tunnel


async def _push(ctx: AttemptContext, tell: Callable[[int, int], None]) -> str:
    """The digest of the manifest as it came through the broker."""
    client = await ctx.run.farm.reached_again(ctx.host)
    mount_from = [base.reference for base in known_bases(ctx)]
    async with ctx.run.farm.tunnel(ctx.host) as port:
        with ctx.run.broker.grant(
            ctx.agent_job, push=ctx.run.request.target.repositories[0], mount_from=mount_from
        ) as grant:
            try:
                # A tag of its own: jobs that push at once from one engine share everything else of the name there.
                await client.push(ctx.agent_job, port, grant.repository, ctx.agent_job, grant.secret.reveal(), tell)
            except ArchloomError as error:
                raise reason(grant, error) from error
            if grant.pushed is None:
                raise LostError("the engine says it pushed, and the broker saw no manifest", code=Cause.ENGINE)
            return grant.pushed.digest


async def _pull(ctx: AttemptContext, bases: Sequence[JobBase], tell: Callable[[str], None]) -> None:
    client = await ctx.client()
    pulls = {base.shown: base.reference for base in bases}
    async with ctx.run.farm.tunnel(ctx.host) as port:
        with ctx.run.broker.grant(ctx.agent_job, bases=pulls) as grant:
            try:
                await client.pull(ctx.agent_job, port, grant.secret.reveal(), tell)
            except ArchloomError as error:
                raise reason(grant, error) from error
