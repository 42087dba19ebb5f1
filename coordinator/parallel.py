"""Run coroutines in parallel: the first error ends all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


async def in_parallel(*works: Coroutine[object, object, T]) -> list[T]:
    """Run the coroutines in parallel; return their results.

    Raises the first error once the other coroutines are cancelled and done.
    """
    tasks = [asyncio.create_task(work) for work in works]
    await _ended(*tasks)
    return [task.result() for task in tasks]


async def checked(check: Coroutine[object, object, None], work: Coroutine[object, object, T]) -> T:
    """Return the result of `work` once `check`, which runs in parallel, has passed. The first error ends both."""
    checking, working = asyncio.create_task(check), asyncio.create_task(work)
    await _ended(checking, working)
    return working.result()


async def _ended(*tasks: asyncio.Task[T] | asyncio.Task[None]) -> None:
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
