"""How an attempt ends badly: committed, told with its last lines, and nothing of it left on its host."""

from __future__ import annotations

import asyncio
import contextlib

from coordinator.domain.run.build_log import StepReader
from coordinator.domain.run.events import AttemptEnded
from coordinator.domain.run.job_names import agent_job
from coordinator.domain.run.model import Attempt, Job
from coordinator.domain.run.retry import Verdict, verdict
from coordinator.domain.run.states import AttemptEvent
from coordinator.errors import ArchloomError
from coordinator.run.context import Loom, place

_PATIENCE_S = 20.0
_AWAY = frozenset({"connection", "unreachable"})


async def failed(
    loom: Loom, job: Job, attempt: Attempt, code: str, message: str, steps: StepReader | None = None
) -> None:
    """The Dockerfile's fault, or a result that is not what was asked."""
    await _end(loom, job, attempt, AttemptEvent.FAIL, code, message, steps)


async def lost(
    loom: Loom, job: Job, attempt: Attempt, code: str, message: str, steps: StepReader | None = None
) -> None:
    """The fault of a host, the network, an engine, a disk, an emulator or a registry."""
    await _end(loom, job, attempt, AttemptEvent.LOSE, code, message, steps)


async def cancelled(loom: Loom, job: Job, attempt: Attempt) -> None:
    await _end(loom, job, attempt, AttemptEvent.CANCEL, "", "cancelled", None)


async def forget(loom: Loom, job: Job, attempt: Attempt) -> None:
    """Nothing of the attempt stays on its host. A host that does not answer now is swept when it is next used."""
    with contextlib.suppress(ArchloomError, TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            client = await loom.farm.client(attempt.host)
            await client.forget(agent_job(loom.run_id, job, attempt))


async def _end(
    loom: Loom,
    job: Job,
    attempt: Attempt,
    event: AttemptEvent,
    code: str,
    message: str,
    steps: StepReader | None,
) -> None:
    write_down(loom, job, attempt, event, code, message, steps)
    # One that is not reached would only be waited for, and is swept when it is next used.
    if code not in _AWAY:
        await forget(loom, job, attempt)


def write_down(
    loom: Loom,
    job: Job,
    attempt: Attempt,
    event: AttemptEvent,
    code: str,
    message: str,
    steps: StepReader | None = None,
) -> None:
    """Commits the end and tells it; the host is not asked."""
    state = loom.store.move_attempt(attempt.id, event, code=code, message=message)
    codes = (*job.codes[:-1], code)
    again = event is AttemptEvent.LOSE and verdict(codes) is Verdict.AGAIN
    loom.emit(
        AttemptEnded(
            place=place(job, attempt),
            state=state,
            code=code,
            message=message,
            step=steps.failing_step if steps else "",
            tail=steps.tail if steps else (),
            again=again and loom.store.run(loom.run_id).stopped_by is None,
        )
    )
