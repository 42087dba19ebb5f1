"""Push: what the host built goes to the registry by way of here, where the digest that counts is seen."""

from __future__ import annotations

import asyncio

from coordinator.domain.causes import Cause
from coordinator.domain.run.events import PUSH_LOST, Phase
from coordinator.domain.run.retry import leaves_as_archive, push_cause, pushed_again
from coordinator.domain.run.states import AttemptEvent, AttemptState
from coordinator.errors import ArchloomError, LostError
from coordinator.run.context import AttemptContext
from coordinator.run.steps.attempt_end import lost
from coordinator.run.steps.image_transfer import image_out, uses_archives
from coordinator.run.steps.phases import phase

_PAUSE_S = 1.0


async def push(ctx: AttemptContext) -> None:
    """Takes the attempt from BUILT to PUSHED; a push that is lost returns it to BUILT. Safe to repeat."""
    if ctx.attempt.state is AttemptState.BUILT:
        ctx.run.store.move_attempt(ctx.attempt.id, AttemptEvent.PUSH)
    try:
        digest = await _carry(ctx)
    except LostError as error:
        await _lost(ctx, error)
    except ArchloomError as error:
        await lost(ctx, Cause.REGISTRY, error.message)
    else:
        ctx.run.store.move_attempt(ctx.attempt.id, AttemptEvent.PUSHED, digest=digest)


async def _lost(ctx: AttemptContext, error: LostError) -> None:
    """Back to BUILT after a pause, a few times: the image is there, and a rebuild would push no better.

    What was lost on every try through the tunnel leaves as an archive once, before another host builds it.
    """
    losses = ctx.run.push_losses[ctx.attempt.id] = ctx.run.push_losses.get(ctx.attempt.id, 0) + 1
    # A host that was off when the run was taken up has no facts to ask.
    tunnel = ctx.host in ctx.run.farm.facts and not uses_archives(ctx)
    if pushed_again(error.code, losses, tunnel=tunnel):
        ctx.run.emit(Phase(ctx.place, "push", f"{PUSH_LOST}{error.message}"))
        await asyncio.sleep(_PAUSE_S * losses)
        ctx.run.store.move_attempt(ctx.attempt.id, AttemptEvent.PUSH_LOST, code=error.code, message=error.message)
    else:
        await lost(ctx, push_cause(error.code), error.message)


async def _carry(ctx: AttemptContext) -> str:
    """The digest of the manifest as it came through here."""
    losses = ctx.run.push_losses.get(ctx.attempt.id, 0)
    archive = leaves_as_archive(losses) and not uses_archives(ctx)
    text = f"again, try {losses + 1}{', as an archive' if archive else ''}" if losses else ""
    with phase(ctx, "push", text):
        return await image_out(ctx, _Progress(ctx, text), archive=archive)


class _Progress:
    """Tells tenths, each once: an engine reports every few kilobytes."""

    def __init__(self, ctx: AttemptContext, last: str) -> None:
        self._ctx = ctx
        self._last = last

    def __call__(self, done: int, total: int) -> None:
        text = f"{10 * (10 * done // total)} %" if total else self._last
        if text != self._last:
            self._last = text
            self._ctx.run.emit(Phase(self._ctx.place, "push", text))
