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
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def checked(check: Coroutine[object, object, None], work: Coroutine[object, object, T]) -> T:
    """Return the result of `work` once `check`, which runs in parallel, has passed. The first error ends both."""
    results: list[T] = []

    async def working() -> None:
        results.append(await work)

    await in_parallel(check, working())
    return results[0]
