"""Build: start the detached job, wait for a slot if need be, follow its log, and write down how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from coordinator.domain.run.build_log import LineKind, LogLine, StepReader
from coordinator.domain.run.events import Phase, Place, StepLine, Waiting
from coordinator.domain.run.job_names import agent_job
from coordinator.domain.run.model import Attempt, Job
from coordinator.domain.run.states import AttemptEvent
from coordinator.errors import LostError
from coordinator.hosts.agent.client import AgentClient
from coordinator.hosts.agent.replies import Ended, EndState, HostBusyError
from coordinator.run.context import Loom, place
from coordinator.run.steps.attempt_end import cancelled, failed, lost
from coordinator.run.steps.phases import phase
from coordinator.state.logs import kept_log, log_path

_ASK_AGAIN_S = 1.0


async def build(loom: Loom, attempt_id: int) -> None:
    """Takes the attempt from BUILDING to its end on the host. Safe to repeat: a job that runs is joined."""
    _, job, attempt = loom.find(attempt_id)
    here = place(job, attempt)
    steps = StepReader()
    try:
        client = await loom.farm.client(attempt.host)
        await _start(loom, client, job, attempt)
        with phase(loom, here, "build"):
            ended = await _follow(loom, client, job, attempt, steps)
    except LostError as error:
        await lost(loom, job, attempt, error.code or "connection", error.message)
        return
    await _settle(loom, job, attempt, ended, steps)


async def _start(loom: Loom, client: AgentClient, job: Job, attempt: Attempt) -> None:
    """Waits for a slot, and says once for whom."""
    name = agent_job(loom.run_id, job, attempt)
    slots = loom.farm.slots_of(attempt.host)
    told = ""
    while True:
        try:
            await client.start(name, holder=f"{loom.env.holder} {name}", slots=slots)
        except HostBusyError as busy:
            if busy.holder != told:
                told = busy.holder
                loom.emit(Waiting(job.platform, f"{attempt.host} is held by {_holder(loom, attempt.host, busy)}"))
            await asyncio.sleep(_ASK_AGAIN_S)
        else:
            return


def _holder(loom: Loom, host: str, busy: HostBusyError) -> str:
    who = busy.holder or "another archloom"
    if not busy.since:
        return who
    host_time = loom.env.clock() + (loom.farm.facts_of(host).clock_offset or 0.0)
    return f"{who} for {max(0.0, host_time - busy.since):.0f} s"


async def _follow(loom: Loom, client: AgentClient, job: Job, attempt: Attempt, steps: StepReader) -> Ended:
    """The job's end. A connection that is lost meanwhile costs the build nothing: its log goes on where it stopped."""
    path = log_path(loom.env.state, loom.run_id, job.platform, attempt.number)
    here = place(job, attempt)
    with kept_log(path, loom.emit) as keep:
        reading = _Reading(loom, here, steps, keep)
        while True:
            try:
                return await reading.to_the_end(client, agent_job(loom.run_id, job, attempt))
            except LostError as error:
                if error.code != "connection":
                    raise
            loom.emit(Phase(here, "connection lost", "the build goes on there; trying to reach it again"))
            client = await loom.farm.reached_again(attempt.host)
            loom.emit(Phase(here, "build", "reached again"))


@dataclass(slots=True)
class _Reading:
    """A log and how far it was read: from the beginning, also when a job is joined again, since the host has it all."""

    loom: Loom
    here: Place
    steps: StepReader
    keep: Callable[[str], None]
    offset: int = 0

    async def to_the_end(self, client: AgentClient, name: str) -> Ended:
        async with aclosing(client.follow(name, self.offset)) as items:
            async for item in items:
                if isinstance(item, Ended):
                    _tell(self.loom, self.steps.end(), self.here)
                    return item
                self.offset = item.offset
                self.keep(item.text)
                _tell(self.loom, self.steps.feed(item.text), self.here)
        raise LostError(f"{self.here.host} closed the log before the job ended", code="connection")


def _tell(loom: Loom, lines: Sequence[LogLine], here: Place) -> None:
    for line in lines:
        # The log keeps everything; digests that name a step again and empty lines tell a person nothing.
        decoration = line.kind is LineKind.OTHER and (line.number or not line.text.strip())
        if not decoration:
            loom.emit(StepLine(here, line.text, line.step))


async def _settle(loom: Loom, job: Job, attempt: Attempt, ended: Ended, steps: StepReader) -> None:
    match ended.state:
        case EndState.BUILT if ended.platform == job.platform:
            loom.store.move_attempt(attempt.id, AttemptEvent.BUILT)
        case EndState.BUILT:
            message = f"the engine built {ended.platform}, asked for {job.platform}"
            await failed(loom, job, attempt, "mismatch", message, steps)
        case EndState.FAILED:
            await failed(loom, job, attempt, ended.code, ended.message, steps)
        case EndState.LOST:
            await lost(loom, job, attempt, ended.code, ended.message, steps)
        case EndState.CANCELLED:
            await cancelled(loom, job, attempt)
