"""Push: what the host built goes to the registry by way of here, where the digest that counts is seen."""

from __future__ import annotations

import asyncio

from coordinator.domain.events import Phase, Place
from coordinator.domain.run import Attempt, Job
from coordinator.domain.states import AttemptEvent, AttemptState
from coordinator.errors import ArchloomError, LostError
from coordinator.runner.actions.carry import image_out, wall
from coordinator.runner.actions.fate import lost
from coordinator.runner.actions.loom import Loom, place
from coordinator.runner.actions.phases import phase

_MOST_PUSHES = 3
_PAUSE_S = 1.0
# An archive takes the same way to the host, and ends in the same registry.
_NOT_THE_TUNNEL = frozenset({"connection", "registry", "unreachable"})


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

    A host whose pushes through the tunnel are all lost sends the image as an archive, before another one builds it.
    """
    losses = loom.push_losses[attempt.id] = loom.push_losses.get(attempt.id, 0) + 1
    here = place(job, attempt)
    if error.code == "not_built":
        await lost(loom, job, attempt, error.code, error.message)
    elif losses < _MOST_PUSHES:
        loom.emit(Phase(here, "push", f"lost: {error.message}"))
        await asyncio.sleep(_PAUSE_S * losses)
        loom.store.move_attempt(attempt.id, AttemptEvent.PUSH_LOST, code=error.code, message=error.message)
    elif error.code not in _NOT_THE_TUNNEL and wall(loom, attempt.host, f"{losses} pushes of {here.host} were lost"):
        loom.emit(Phase(here, "push", f"lost: {error.message}"))
        loom.store.move_attempt(attempt.id, AttemptEvent.PUSH_LOST, code=error.code, message=error.message)
    else:
        await lost(loom, job, attempt, "registry" if error.code == "registry" else "push", error.message)


async def _carry(loom: Loom, job: Job, attempt: Attempt) -> str:
    """The digest of the manifest as it came through here."""
    here = place(job, attempt)
    told = f"again, try {again}" if (again := loom.push_losses.get(attempt.id, 0) + 1) > 1 else ""
    with phase(loom, here, "push", told):
        return await image_out(loom, job, attempt, _Progress(loom, here, told))


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
