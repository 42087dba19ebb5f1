"""Push: the host pushes what it built through the tunnel to the broker, which saw the digest it believes."""

from __future__ import annotations

from coordinator.domain.events import Phase, Place
from coordinator.domain.run import Attempt, Job
from coordinator.domain.states import AttemptEvent, AttemptState
from coordinator.errors import ArchloomError, LostError, RegistryError
from coordinator.registry.doors import PASSING, Door
from coordinator.runner.fate import lost
from coordinator.runner.loom import Loom, agent_job, place

_MOST_PUSHES = 3


async def push(loom: Loom, attempt_id: int) -> None:
    """Takes the attempt from BUILT to PUSHED; a push that is lost returns it to BUILT. Safe to repeat."""
    _, job, attempt = loom.find(attempt_id)
    if attempt.state is AttemptState.BUILT:
        loom.store.move_attempt(attempt_id, AttemptEvent.PUSH)
    try:
        digest = await _carry(loom, job, attempt)
    except RegistryError as error:
        await lost(loom, job, attempt, "registry", error.message)
    except LostError as error:
        losses = loom.push_losses[attempt_id] = loom.push_losses.get(attempt_id, 0) + 1
        if losses < _MOST_PUSHES:
            loom.store.move_attempt(attempt_id, AttemptEvent.PUSH_LOST, code=error.code, message=error.message)
        else:
            await lost(loom, job, attempt, error.code or "tunnel", error.message)
    else:
        loom.store.move_attempt(attempt_id, AttemptEvent.PUSHED, digest=digest)


async def _carry(loom: Loom, job: Job, attempt: Attempt) -> str:
    """The digest of the manifest as it came through the broker."""
    name = agent_job(loom.run_id, job, attempt)
    progress = _Progress(loom, place(job, attempt))
    progress.tell("")
    client = await loom.farm.client(attempt.host)
    port = await loom.farm.tunnel(attempt.host)
    with loom.broker.door(name, push=loom.request.target.repositories[0]) as door:
        try:
            # A tag of its own: jobs that push at once from one engine share everything else of the name there.
            await client.push(name, port, door.repository, name, door.secret.reveal(), progress)
        except (LostError, RegistryError) as error:
            raise _reason(door, error) from error
        if door.pushed is None:
            raise LostError("the engine says it pushed, and the broker saw no manifest", code="engine")
        return door.pushed.digest


def _reason(door: Door, error: LostError | RegistryError) -> ArchloomError:
    """What the registry said, where it said something; what the engine makes of it is not the reason."""
    if door.refusal is None:
        return error
    if door.refusal.code in PASSING:
        return LostError(door.refusal.message, code="registry")
    return door.refusal


class _Progress:
    """Tells tenths, each once: an engine reports every few kilobytes."""

    def __init__(self, loom: Loom, here: Place) -> None:
        self._loom = loom
        self._here = here
        self._told: str | None = None

    def __call__(self, done: int, total: int) -> None:
        if total:
            self.tell(f"{10 * (10 * done // total)} %")

    def tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._loom.emit(Phase(self._here, "push", text))
