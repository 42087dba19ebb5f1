"""The end of a run: what goes on while its tags are moved, and what its process waits for."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from coordinator.domain.run.events import RunEnded
from coordinator.domain.run.next_actions import Publish, Verify
from coordinator.domain.run.states import JobState, TargetEvent
from coordinator.errors import Exit, InterruptedRunError
from coordinator.publish.publish import index_of
from coordinator.run.driver import PreparedRun, drive_to_end
from coordinator.run.held_lease import HeldLease
from coordinator.run.steps.verify import verify
from tests.edges.run.step_bed import BUILDING, PUSHED, RUN
from tests.edges.run.test_verify_step import image


async def test_the_tags_do_not_wait_for_a_host_that_is_slow_to_forget(steps):
    """The run ends with the publication; its process waits until the hosts hold nothing of it any more."""
    run, published = replace(steps.run, lease=HeldLease(steps.store, RUN)), asyncio.Event()
    for number, architecture in enumerate(("amd64", "arm64")):
        attempt = steps.attempt(*PUSHED[:-1], job=number).attempt
        steps.store.move_attempt(attempt.id, PUSHED[-1], digest=image(steps, architecture).digest)
    steps.client.may_forget.clear()

    async def dispatch(action: object) -> None:
        match action:
            case Verify(attempt_id):
                await verify(run.attempt(attempt_id))
            case Publish():
                index = index_of(steps.store.run(run.run_id))
                for event in (TargetEvent.INDEX, TargetEvent.TAG, TargetEvent.PUBLISH):
                    steps.store.move_target(run.run_id, event, digest=index.digest)
                published.set()

    driving = asyncio.create_task(drive_to_end(PreparedRun(context=run, began=0.0), dispatch))
    async with asyncio.timeout(10):
        await published.wait()
    assert (driving.done(), steps.client.asked) == (False, [])

    steps.client.may_forget.set()
    result = await driving
    assert (result.exit_code, [job.state for job in result.run.jobs]) == (Exit.DONE, [JobState.VERIFIED] * 2)
    assert sorted(steps.client.asked) == [("forget", "7f3a-amd64-1"), ("forget", "7f3a-arm64-1")]
    assert isinstance(steps.events[-1], RunEnded)


@pytest.mark.parametrize("by", ["Ctrl-C", "archloom cancel"])
async def test_a_stopped_run_says_how_it_is_built_after_all(steps, by: str):
    """It has ended, so that `retry` goes on with it, and `resume` does not."""
    lease, waits = HeldLease(steps.store, RUN), asyncio.Event()
    run = replace(steps.run, lease=lease)
    steps.attempt(*BUILDING)

    async def dispatch(action: object) -> None:
        waits.set()
        await asyncio.Event().wait()

    driving = asyncio.create_task(drive_to_end(PreparedRun(context=run, began=0.0), dispatch))
    async with asyncio.timeout(10):
        await waits.wait()
    if by == "archloom cancel":
        lease.end_reason = InterruptedRunError("run 7f3a was cancelled", code="cancelled")
    driving.cancel()
    result = await driving

    assert (result.exit_code, result.hint) == (Exit.INTERRUPTED, "to build it after all: archloom retry 7f3a")
    assert "not touched" in result.message
    assert (steps.events[-1].exit_code, steps.events[-1].hint) == (result.exit_code, result.hint)


async def test_a_run_that_is_stopped_while_it_moves_a_tag_does_not_deny_it(steps):
    """The registry may have carried out a request whose answer never came."""
    run, waits = replace(steps.run, lease=HeldLease(steps.store, RUN)), asyncio.Event()
    for number, architecture in enumerate(("amd64", "arm64")):
        attempt = steps.attempt(*PUSHED[:-1], job=number).attempt
        steps.store.move_attempt(attempt.id, PUSHED[-1], digest=image(steps, architecture).digest)

    async def dispatch(action: object) -> None:
        match action:
            case Verify(attempt_id):
                await verify(run.attempt(attempt_id))
            case Publish():
                for event in (TargetEvent.INDEX, TargetEvent.TAG):
                    steps.store.move_target(RUN, event, digest="sha256:i")
                waits.set()
                await asyncio.get_running_loop().create_future()

    driving = asyncio.create_task(drive_to_end(PreparedRun(context=run, began=0.0), dispatch))
    async with asyncio.timeout(10):
        await waits.wait()
    driving.cancel()
    result = await driving

    assert result.message == "interrupted; nas.lan:5000/team/app:1 may have moved"
    assert result.hint == "what was built is kept; to publish it: archloom retry 7f3a"
