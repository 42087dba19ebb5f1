"""The send step: what has no room beside an earlier job is sent after it."""

from __future__ import annotations

import asyncio

import pytest

from coordinator.domain.run.events import Waiting
from coordinator.domain.run.states import AttemptEvent
from coordinator.errors import LostError
from coordinator.run.steps.attempt_end import begin_to_forget
from coordinator.run.steps.send import with_room
from tests.edges.run.step_bed import BUILDING
from tests.edges.store.store_bed import ARM64


class Disk:
    """Full until `free`."""

    def __init__(self, code: str = "disk") -> None:
        self.code, self.free, self.tries = code, False, 0

    async def transfer(self) -> None:
        self.tries += 1
        if not self.free:
            raise LostError("too little space", code=self.code)


async def test_what_has_no_room_beside_a_build_is_sent_after_it(steps):
    """A disk that takes one of two platforms at a time is no reason to lose the second."""
    first, disk = steps.attempt(*BUILDING), Disk()
    sending = asyncio.create_task(with_room(steps.attempt(AttemptEvent.SEND, job=1), disk.transfer))
    while not steps.events:
        await asyncio.sleep(0)
    assert steps.events == [Waiting(ARM64, "pi5 has no room for it beside what it builds")]

    disk.free = True
    steps.store.move_attempt(first.attempt.id, AttemptEvent.FAIL, code="build")
    await sending

    assert disk.tries == 2


@pytest.mark.parametrize("code", ["disk", "connection"])
async def test_what_no_end_of_an_earlier_job_would_help_is_not_repeated(steps, code):
    """The first of two jobs waits for none, or they would wait for each other; a loss of another kind is a loss."""
    first, disk = steps.attempt(AttemptEvent.SEND), Disk(code)
    steps.attempt(*BUILDING, job=1)

    with pytest.raises(LostError):
        await with_room(first, disk.transfer)

    assert (disk.tries, steps.events) == (1, [])


async def test_what_has_no_room_until_an_image_is_deleted_is_sent_after_that(steps):
    """A board takes seconds to delete the image of a verified job, and its room is not there before."""
    before, disk = steps.attempt(*BUILDING), Disk()
    steps.store.move_attempt(before.attempt.id, AttemptEvent.CANCEL)
    steps.client.may_forget.clear()
    begin_to_forget(before)
    sending = asyncio.create_task(with_room(steps.attempt(AttemptEvent.SEND, job=1), disk.transfer))
    while not steps.events:
        await asyncio.sleep(0)

    disk.free = True
    steps.client.may_forget.set()
    await sending

    assert disk.tries == 2
