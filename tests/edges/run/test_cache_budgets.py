"""The build cache of a host is kept within its budget, once the run has ended."""

from __future__ import annotations

from coordinator.domain.run.events import Notice
from coordinator.errors import LostError
from coordinator.run.cache_budgets import keep_cache_budgets
from tests.edges.run.step_bed import BUILDING


async def test_a_host_with_a_cache_budget_is_kept_within_it(steps):
    """What went is told, and an error is nobody's."""
    steps.farm.hosts["pi5"].cache_budget = 4_000_000
    ctx = steps.attempt(*BUILDING)

    await keep_cache_budgets(ctx.run)

    assert steps.client.asked == [("prune", "4000000")]
    assert [event.text for event in steps.events if isinstance(event, Notice)] == [
        "host 'pi5': 2 MB of build cache removed (cache_budget)"
    ]

    def refuse(*_: object) -> None:
        raise LostError("no", code="engine")

    steps.client.does["prune"] = refuse
    await keep_cache_budgets(ctx.run)


async def test_other_hosts_are_left_alone(steps):
    """Those without a budget, and those that this run has not used or that have left the inventory."""
    await keep_cache_budgets(steps.run)
    ctx = steps.attempt(*BUILDING)
    await keep_cache_budgets(ctx.run)
    del steps.farm.hosts["pi5"]
    await keep_cache_budgets(ctx.run)

    assert steps.client.asked == []
