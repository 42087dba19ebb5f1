"""Send: what the host needs to build, before it begins: the job's spec, the context, the bases."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from coordinator.domain.run.events import Phase, Place
from coordinator.domain.run.job_names import agent_job
from coordinator.domain.run.model import Attempt, Job
from coordinator.domain.run.states import AttemptEvent, AttemptState
from coordinator.errors import ArchloomError, LostError, RegistryError
from coordinator.hosts.agent.client import AgentClient
from coordinator.hosts.agent.context import Lacking
from coordinator.run.context import Loom, place
from coordinator.run.steps.attempt_end import lost
from coordinator.run.steps.image_transfer import bases_in
from coordinator.run.steps.job_spec import JobBase, job_bases, spec
from coordinator.run.steps.phases import phase


async def send(loom: Loom, attempt_id: int) -> None:
    """Takes the attempt from ASSIGNED to BUILDING. Safe to repeat: what has arrived is replaced by the same."""
    _, job, attempt = loom.find(attempt_id)
    if attempt.state is AttemptState.ASSIGNED:
        loom.store.move_attempt(attempt_id, AttemptEvent.SEND)
    try:
        await _send(loom, job, attempt)
    except RegistryError as error:
        await lost(loom, job, attempt, "registry", error.message)
    except LostError as error:
        await lost(loom, job, attempt, error.code or "connection", error.message)
    else:
        loom.store.move_attempt(attempt_id, AttemptEvent.SENT)


async def _send(loom: Loom, job: Job, attempt: Attempt) -> None:
    here = place(job, attempt)
    name = agent_job(loom.run_id, job, attempt)
    client = await loom.farm.client(attempt.host)
    bases = job_bases(loom.inputs, job.platform, loom.farm.facts_of(attempt.host).native)
    await client.create(name, spec(loom, job, attempt, bases))
    # Side by side: either spends much of its time waiting for the host's small answers.
    await _all(_context(loom, client, name, here), *([_bases(loom, job, attempt, bases)] if bases else []))


async def _all(*works: Coroutine[object, object, None]) -> None:
    """The first of their errors, when none of them goes on any more."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _context(loom: Loom, client: AgentClient, name: str, here: Place) -> None:
    # Within this machine bytes cost less than the time to pack them.
    pack = not loom.farm.hosts[here.host].address.is_local
    with phase(loom, here, "context"):
        await client.send_context(
            name, loom.inputs.offer, lambda lacking: loom.emit(Phase(here, "context", _told(lacking))), pack=pack
        )


async def _bases(loom: Loom, job: Job, attempt: Attempt, bases: tuple[JobBase, ...]) -> None:
    here = place(job, attempt)
    try:
        with phase(loom, here, "base", ", ".join(dict.fromkeys(base.use.text for base in bases))):
            await bases_in(loom, job, attempt, bases, lambda text: loom.emit(Phase(here, "base", text)))
    except ArchloomError as error:
        raise _of_registry(error) from error


def _told(lacking: Lacking) -> str:
    return f"{lacking.files} of {lacking.of} files, {lacking.bytes / 1e6:.1f} MB"


def _of_registry(error: ArchloomError) -> ArchloomError:
    """A base's registry that the inventory describes wrongly ends this job, not the run of all platforms."""
    return error if isinstance(error, LostError) else RegistryError(error.message, hint=error.hint, code=error.code)
