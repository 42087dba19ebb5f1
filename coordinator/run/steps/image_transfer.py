"""Transfer images from hosts and bases to hosts: through the tunnel, or as archives if the engine cannot reach it."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from coordinator.broker.grant import Grant
from coordinator.domain.causes import Cause, rule
from coordinator.domain.run.events import Notice
from coordinator.errors import ArchloomError, LostError
from coordinator.run.context import AttemptContext
from coordinator.run.steps import archive_transfer
from coordinator.run.steps.job_spec import JobBase, known_bases
from coordinator.run.steps.push_errors import reason

T = TypeVar("T")


async def image_out(ctx: AttemptContext, tell: Callable[[int, int], None], *, archive: bool = False) -> str:
    """Transfer the built image to the target's first repository; return its digest as the coordinator saw it pass.

    `tell` gets bytes done and in total; `archive`: do not try the tunnel. Raises LostError, or RegistryError for a
    refusal of the registry.
    """
    if archive:
        return await archive_transfer.image_out(ctx, tell)
    return await _with_fallback(
        ctx,
        lambda: _push(ctx, tell),
        lambda: archive_transfer.image_out(ctx, tell),
    )


async def bases_in(ctx: AttemptContext, bases: Sequence[JobBase], tell: Callable[[str], None]) -> None:
    """Transfer these bases of the job to the host. Raises LostError, or RegistryError for a refusal of a registry."""
    await _with_fallback(
        ctx,
        lambda: _pull(ctx, bases, tell),
        lambda: archive_transfer.bases_in(ctx, bases, tell),
    )


async def _with_fallback(
    ctx: AttemptContext, tunnel: Callable[[], Awaitable[T]], archive: Callable[[], Awaitable[T]]
) -> T:
    """Use the tunnel, and archives once the host's engine could not reach it: then for the remainder of the run."""
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
    """Return whether the engine of this host is known not to reach a tunnel."""
    return ctx.host in ctx.run.no_tunnel_hosts or not ctx.facts.reaches_tunnel


async def _push(ctx: AttemptContext, tell: Callable[[int, int], None]) -> str:
    """Push through the broker; return the digest of the manifest that the broker received."""
    client = await ctx.client()
    mount_from = [base.reference for base in known_bases(ctx)]
    async with ctx.run.farm.tunnel(ctx.host) as port:
        with ctx.run.broker.grant(
            ctx.agent_job, push=ctx.run.request.target.repositories[0], mount_from=mount_from
        ) as grant:
            try:
                # The tag is unique per job: concurrent pushes of one engine otherwise use the same image name.
                names = (grant.repository, ctx.agent_job)
                with _watched(ctx, grant):
                    await client.push(ctx.agent_job, port, *names, grant.secret.reveal(), tell, grant.last_byte)
            except ArchloomError as error:
                raise reason(grant, error) from error
            if grant.pushed is None:
                words = "the engine reported a push, but the broker received no manifest"
                raise reason(grant, LostError(words, code=Cause.ENGINE))
            return grant.pushed.digest


async def _pull(ctx: AttemptContext, bases: Sequence[JobBase], tell: Callable[[str], None]) -> None:
    client = await ctx.client()
    pulls = {base.broker_repository: base.reference for base in bases}
    rewritten = [base.rewritten for base in bases if base.rewritten]
    async with ctx.run.farm.tunnel(ctx.host) as port:
        with ctx.run.broker.grant(ctx.agent_job, bases=pulls, rewritten=rewritten) as grant:
            try:
                with _watched(ctx, grant):
                    await client.pull(ctx.agent_job, port, grant.secret.reveal(), tell, grant.last_byte)
            except ArchloomError as error:
                raise reason(grant, error) from error


@contextlib.contextmanager
def _watched(ctx: AttemptContext, grant: Grant) -> Iterator[None]:
    """Let the step look when the last byte of the transfer has moved."""
    ctx.run.last_bytes[ctx.attempt.id] = grant.last_byte
    try:
        yield
    finally:
        del ctx.run.last_bytes[ctx.attempt.id]
