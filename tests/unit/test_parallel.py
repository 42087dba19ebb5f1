"""The first error of parallel work ends the rest of it before it is raised."""

from __future__ import annotations

import asyncio

import pytest

from coordinator.parallel import checked, in_parallel


async def of_value(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def endless(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        ended.append("ended")


async def failing() -> None:
    raise LookupError


async def test_results_come_in_order():
    assert await in_parallel(*map(of_value, range(3))) == [0, 1, 2]
    assert await checked(asyncio.sleep(0), of_value(4)) == 4


async def test_nothing_runs_once_the_error_is_raised():
    """A pin that is written after publishing has failed belongs to no run."""
    ended: list[str] = []

    with pytest.raises(LookupError):
        await in_parallel(endless(ended), failing(), endless(ended))
    with pytest.raises(LookupError):
        await checked(failing(), endless(ended))

    assert ended == ["ended"] * 3
