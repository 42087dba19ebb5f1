"""Keep the build caches of the hosts that a run used within the `cache_budget` that the inventory sets for them."""

from __future__ import annotations

import asyncio
import contextlib

from coordinator.domain.run.events import Notice
from coordinator.errors import ArchloomError
from coordinator.run.context import RunContext

# An engine on an SD card takes long to delete; what it has not deleted goes after the next run.
_TIMEOUT_S = 20.0


async def keep_cache_budgets(run: RunContext) -> None:
    """Let the engines remove what is over their budgets, all at once, and emit how much that was.

    For the end of a run: nobody waits for it then. Errors are ignored, since the image is published or lost already.
    """
    used = {attempt.host for job in run.store.run(run.run_id).jobs for attempt in job.attempts}
    if used:
        hosts = (run.farm.hosts[name] for name in sorted(used) if name in run.farm.hosts)
        budgets = {host.name: host.cache_budget for host in hosts}
        await asyncio.gather(*(_prune(run, name, budget) for name, budget in budgets.items() if budget is not None))


async def _prune(run: RunContext, host: str, budget: int) -> None:
    with contextlib.suppress(ArchloomError, TimeoutError):
        async with asyncio.timeout(_TIMEOUT_S):
            freed = await (await run.farm.client(host)).prune(budget)
        if freed:
            run.emit(Notice(f"host '{host}': {freed / 1e6:,.0f} MB of build cache removed (cache_budget)"))
