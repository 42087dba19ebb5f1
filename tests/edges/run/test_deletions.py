"""Deletions beside a run: waited for, told when they take long, never in the way of the result."""

from __future__ import annotations

import asyncio
import logging

from coordinator.domain.run.events import Notice
from coordinator.run.deletions import Deletions


async def test_a_deletion_that_takes_long_is_told_with_its_host():
    """Once, and waited for."""
    may_end, events = asyncio.Event(), []

    def told(event: object) -> None:
        events.append(event)
        may_end.set()

    async def quick() -> None:
        pass

    async def slow() -> None:
        await may_end.wait()

    async with Deletions() as running:
        running.begin("pi4", quick())
        running.begin("pi5", slow())
        await running.finish(told)

    assert events == [Notice("waiting for pi5 to delete what this run left there; the result is the same")]


async def test_an_error_of_a_deletion_is_logged(caplog):
    async def broken() -> None:
        raise OSError("a tunnel")

    with caplog.at_level(logging.WARNING, "archloom.run"):
        async with Deletions() as running:
            running.begin("pi5", broken())
            await running.finish([].append)

    assert "pi5: a job was not deleted" in caplog.text


async def test_what_has_not_ended_is_cancelled_with_the_run():
    ended: list[str] = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    async with Deletions() as running:
        running.begin("pi5", endless())
        await asyncio.sleep(0)

    assert ended == ["cancelled"]
