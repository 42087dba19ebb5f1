"""Work with a host whose connection is lost, and with one whose engine or disk gives no answer."""

from __future__ import annotations

import asyncio
import time

import pytest

from coordinator.domain.run.events import NO_ANSWER
from coordinator.errors import LostError
from coordinator.run.steps.reach import on_host
from tests.edges.run.step_bed import BUILDING, FakeClient


async def waits(_: FakeClient) -> None:
    await asyncio.get_running_loop().create_future()


async def test_an_engine_that_does_not_answer_is_said_and_given_up(steps):
    """Another host may begin meanwhile; the attempt is lost after the host's patience."""
    steps.client.silences = [0.0, 21.0, 25.0, 61.0]

    with pytest.raises(LostError, match="its engine has not answered for 61 s") as lost:
        await on_host(steps.attempt(*BUILDING), waits)

    assert lost.value.code == "engine"
    assert [(event.name, event.text) for event in steps.events] == [
        (NO_ANSWER, "its engine has not answered for 21 s, given up in 39 s")
    ]
    assert steps.run.hosts.silences == [True, False]


async def test_a_disk_that_hangs_is_one_too(steps):
    steps.client.disk_silence = 60.0

    with pytest.raises(LostError, match="its disk has not answered") as lost:
        await on_host(steps.attempt(*BUILDING), waits)

    assert lost.value.code == "disk"


async def test_work_that_ends_is_not_judged_by_the_engine(steps):
    """What it did counts, also where the engine is slow."""
    steps.client.silences = [99.0]

    async def works(_: FakeClient) -> str:
        return "done"

    assert await on_host(steps.attempt(*BUILDING), works) == "done"


async def test_a_connection_that_carries_nothing_is_given_up(steps):
    """However often the host answers in between."""
    tries = []

    async def breaks(_: FakeClient) -> None:
        tries.append(1)
        raise LostError("it broke off", code="connection")

    with pytest.raises(LostError, match="it broke off"):
        await on_host(steps.attempt(*BUILDING), breaks)

    assert len(tries) == 3


async def test_a_push_that_moves_no_byte_is_said(steps):
    """Another host may begin, before the client gives it up."""
    ctx = steps.attempt(*BUILDING)
    ages = [0.0, 21.0, 25.0]
    ended = asyncio.Event()

    def last_byte() -> float:
        if len(ages) == 1:
            ended.set()
        return time.monotonic() - (ages.pop(0) if len(ages) > 1 else ages[0])

    async def works(_: FakeClient) -> None:
        await ended.wait()

    ctx.run.last_bytes[ctx.attempt.id] = last_byte

    await on_host(ctx, works)

    assert [event.text for event in steps.events] == ["it has moved no byte of the image for 21 s"]
    assert steps.run.hosts.silences == [True, False]


async def test_a_cancelled_step_ends_its_work(steps):
    """Nothing goes on behind its back."""
    ended = []

    async def works(_: FakeClient) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(1)

    step = asyncio.create_task(on_host(steps.attempt(*BUILDING), works))
    await asyncio.sleep(0.01)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step

    assert ended == [1]
