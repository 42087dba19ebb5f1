"""Push: the host pushes what it built through the tunnel to the broker, which saw the digest it believes."""

from __future__ import annotations

from coordinator.domain.events import Phase
from coordinator.domain.states import AttemptEvent, AttemptState
from coordinator.errors import LostError, RegistryError
from coordinator.runner.fate import lost
from coordinator.runner.loom import Loom, agent_job, place

_MOST_PUSHES = 3


async def push(loom: Loom, attempt_id: int) -> None:
    """Takes the attempt from BUILT to PUSHED; a push that is lost returns it to BUILT. Safe to repeat."""
    _, job, attempt = loom.find(attempt_id)
    if attempt.state is AttemptState.BUILT:
        loom.store.move_attempt(attempt_id, AttemptEvent.PUSH)
    here = place(job, attempt)
    name = agent_job(loom.run_id, job, attempt)
    loom.emit(Phase(here, "push"))

    def told(done: int, total: int) -> None:
        loom.emit(Phase(here, "push", f"{100 * done // total} %" if total else ""))

    try:
        client = await loom.farm.client(attempt.host)
        port = await loom.farm.tunnel(attempt.host)
        with loom.broker.door(name, push=loom.request.target.repositories[0]) as door:
            try:
                await client.push(name, port, door.repository, "image", door.secret.reveal(), told)
            except LostError as error:
                if door.refusal is not None:
                    raise door.refusal from error
                raise
            pushed = door.pushed
    except RegistryError as error:
        await lost(loom, job, attempt, "registry", error.message)
    except LostError as error:
        losses = loom.push_losses[attempt_id] = loom.push_losses.get(attempt_id, 0) + 1
        if losses < _MOST_PUSHES:
            loom.store.move_attempt(attempt_id, AttemptEvent.PUSH_LOST, code=error.code, message=error.message)
        else:
            await lost(loom, job, attempt, error.code or "tunnel", error.message)
    else:
        if pushed is None:
            await lost(loom, job, attempt, "engine", "the engine says it pushed, and the broker saw no manifest")
        else:
            loom.store.move_attempt(attempt_id, AttemptEvent.PUSHED, digest=pushed.digest)
