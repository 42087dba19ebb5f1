"""Push: what the host built goes to the registry by way of here, where the digest that counts is seen."""

from __future__ import annotations

import asyncio

from coordinator.domain.run.events import PUSH_LOST, Phase, Place
from coordinator.domain.run.model import Attempt, Job
from coordinator.domain.run.retry import leaves_as_archive, pushed_again
from coordinator.domain.run.states import AttemptEvent, AttemptState
from coordinator.errors import ArchloomError, LostError
from coordinator.run.context import Loom, place
from coordinator.run.steps.attempt_end import lost
from coordinator.run.steps.image_transfer import image_out, uses_archives
from coordinator.run.steps.phases import phase

_PAUSE_S = 1.0


async def push(loom: Loom, attempt_id: int) -> None:
    """Takes the attempt from BUILT to PUSHED; a push that is lost returns it to BUILT. Safe to repeat."""
    _, job, attempt = loom.find(attempt_id)
    if attempt.state is AttemptState.BUILT:
        loom.store.move_attempt(attempt_id, AttemptEvent.PUSH)
    try:
        digest = await _carry(loom, job, attempt)
    except LostError as error:
        await _lost(loom, job, attempt, error)
    except ArchloomError as error:
        await lost(loom, job, attempt, "registry", error.message)
    else:
        loom.store.move_attempt(attempt_id, AttemptEvent.PUSHED, digest=digest)


async def _lost(loom: Loom, job: Job, attempt: Attempt, error: LostError) -> None:
    """Back to BUILT after a pause, a few times: the image is there, and a rebuild would push no better.

    What was lost on every try through the tunnel leaves as an archive once, before another host builds it.
    """
    losses = loom.push_losses[attempt.id] = loom.push_losses.get(attempt.id, 0) + 1
    # A host that was off when the run was taken up has no facts to ask.
    tunnel = attempt.host in loom.farm.facts and not uses_archives(loom, attempt.host)
    if pushed_again(error.code, losses, tunnel=tunnel):
        loom.emit(Phase(place(job, attempt), "push", f"{PUSH_LOST}{error.message}"))
        await asyncio.sleep(_PAUSE_S * losses)
        loom.store.move_attempt(attempt.id, AttemptEvent.PUSH_LOST, code=error.code, message=error.message)
    else:
        code = error.code if error.code in {"not_built", "registry"} else "push"
        await lost(loom, job, attempt, code, error.message)


async def _carry(loom: Loom, job: Job, attempt: Attempt) -> str:
    """The digest of the manifest as it came through here."""
    here = place(job, attempt)
    losses = loom.push_losses.get(attempt.id, 0)
    archive = leaves_as_archive(losses) and not uses_archives(loom, attempt.host)
    told = f"again, try {losses + 1}{', as an archive' if archive else ''}" if losses else ""
    with phase(loom, here, "push", told):
        return await image_out(loom, job, attempt, _Progress(loom, here, told), archive=archive)


class _Progress:
    """Tells tenths, each once: an engine reports every few kilobytes."""

    def __init__(self, loom: Loom, here: Place, told: str) -> None:
        self._loom = loom
        self._here = here
        self._told = told

    def __call__(self, done: int, total: int) -> None:
        text = f"{10 * (10 * done // total)} %" if total else self._told
        if text != self._told:
            self._told = text
            self._loom.emit(Phase(self._here, "push", text))
