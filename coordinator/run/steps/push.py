"""The push step: transfer the built image to the registry through the coordinator, which records its digest."""

from __future__ import annotations

import asyncio

from coordinator.domain.causes import Cause, rule
from coordinator.domain.run.events import PUSH_LOST, Phase
from coordinator.domain.run.registry_trouble import RegistryUse
from coordinator.domain.run.retry import next_push_is_archive, push_cause, pushed_again
from coordinator.domain.run.states import AttemptEvent, AttemptState
from coordinator.errors import ArchloomError, LostError
from coordinator.run.context import AttemptContext
from coordinator.run.registry_patience import begin_wait, end_wait, forget_wait, wait
from coordinator.run.steps.attempt_end import lost
from coordinator.run.steps.image_transfer import image_out, uses_archives
from coordinator.run.steps.phases import phase
from coordinator.run.steps.reach import on_host

_RETRY_PAUSE_S = 1.0
_MOST_PERCENT = 90
# How long a push may go on without a line.
_LINE_S = 3.0


async def push(ctx: AttemptContext) -> None:
    """Take the attempt from BUILT to PUSHED; a lost push returns it to BUILT. Idempotent."""
    if ctx.attempt.state is AttemptState.BUILT:
        ctx.run.store.move_attempt(ctx.attempt.id, AttemptEvent.PUSH)
    try:
        digest = await on_host(ctx, lambda _: _transfer(ctx), "the image stays there")
    except LostError as error:
        forget_wait(ctx.run, _use(ctx))
        await _lost(ctx, error)
    except ArchloomError as error:
        await _registry_failed(ctx, error)
    else:
        end_wait(ctx.run, _use(ctx))
        ctx.run.store.move_attempt(ctx.attempt.id, AttemptEvent.PUSHED, digest=digest)


def _use(ctx: AttemptContext) -> RegistryUse:
    return RegistryUse(
        name=f"push {ctx.attempt.id}",
        registry=ctx.run.request.target.repositories[0].registry,
        platforms=(ctx.job.platform,),
        kept={str(ctx.job.platform): ctx.host},
    )


async def _registry_failed(ctx: AttemptContext, error: ArchloomError) -> None:
    """Return the attempt to BUILT and wait before the next push, or end it where the registry is given up."""
    try:
        pause = begin_wait(ctx.run, _use(ctx), error)
    except ArchloomError as given_up:
        await lost(ctx, Cause.REGISTRY, given_up.message, hint=given_up.hint)
        return
    # This push is not counted as lost: the host and its connection are well.
    ctx.run.store.move_attempt(ctx.attempt.id, AttemptEvent.PUSH_LOST, code=Cause.REGISTRY, message=error.message)
    await wait(ctx.run, _use(ctx), pause)


async def _lost(ctx: AttemptContext, error: LostError) -> None:
    """Return the attempt to BUILT after a pause, or end it as LOST after the last try.

    The host still has the image, and a rebuild would not push better. After the tries through the tunnel the image is
    transferred once as an archive, before another host builds it.
    """
    if rule(error.code).may_return:
        # The host was waited for already. Whatever image it has, another host builds it sooner.
        await lost(ctx, error.code, error.message)
        return
    losses = ctx.run.push_losses[ctx.attempt.id] = ctx.run.push_losses.get(ctx.attempt.id, 0) + 1
    # A host that was off when the run was resumed has no facts.
    tunnel = ctx.host in ctx.run.farm.facts and not uses_archives(ctx)
    if pushed_again(error.code, losses, tunnel=tunnel):
        ctx.run.emit(Phase(ctx.place, "push", f"{PUSH_LOST}{error.message}"))
        await asyncio.sleep(_RETRY_PAUSE_S * losses)
        ctx.run.store.move_attempt(ctx.attempt.id, AttemptEvent.PUSH_LOST, code=error.code, message=error.message)
    else:
        await lost(ctx, push_cause(error.code), error.message)


async def _transfer(ctx: AttemptContext) -> str:
    """Transfer the image; return the digest of its manifest as the coordinator saw it pass."""
    losses = ctx.run.push_losses.get(ctx.attempt.id, 0)
    archive = next_push_is_archive(losses) and not uses_archives(ctx)
    text = "again" if _use(ctx).name in ctx.run.patience.troubles else ""
    if losses:
        text = f"again, try {losses + 1}{', as an archive' if archive else ''}"
    with phase(ctx, "push", text):
        digest = await image_out(ctx, _Progress(ctx), archive=archive)
        if ctx.attempt.id in ctx.run.push_percents:
            ctx.run.emit(Phase(ctx.place, "push", "100 %"))
        return digest


class _Progress:
    """Emit progress in steps of 10 %, because an engine reports every few kilobytes; and at least every 3 s.

    An engine counts a layer once it has begun with it: the total grows, and all that is known may be done long before
    the push is. So the percentage never falls, also not when a lost push begins again, and 100 % is told only at the
    end, where anything was.
    """

    def __init__(self, ctx: AttemptContext) -> None:
        self._ctx = ctx
        self._told_at = ctx.run.env.clock()

    def __call__(self, done: int, total: int) -> None:
        if not total:
            return
        percents = self._ctx.run.push_percents
        percent = min(_MOST_PERCENT, 10 * (10 * done // total))
        last = percents.get(self._ctx.attempt.id, -1)
        now = self._ctx.run.env.clock()
        if percent > last:
            text = f"{percent} %"
        elif now - self._told_at >= _LINE_S:
            text = f"{max(last, 0)} %, {done / 1e6:.1f} MB of {total / 1e6:.1f} MB so far"
        else:
            return
        percents[self._ctx.attempt.id] = max(percent, last)
        self._told_at = now
        self._ctx.run.emit(Phase(self._ctx.place, "push", text))
