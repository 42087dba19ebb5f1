"""`archloom plan`: which host would build which platform, and why."""

from __future__ import annotations

from contextlib import AsyncExitStack

from coordinator.domain.hosts.inventory import Inventory
from coordinator.domain.placement.plan import Plan, check_names
from coordinator.domain.placement.probe_deadline import ProbePriority
from coordinator.domain.run.events import Emit
from coordinator.domain.targets.request import BuildRequest
from coordinator.environment import Environment
from coordinator.farm.candidates import plan_for, report_inventory, wanted, with_platforms
from coordinator.farm.fact_cache import FactCache
from coordinator.farm.farm import Farm
from coordinator.farm.probe import Probing
from coordinator.run.inputs.gather import read_dockerfile
from coordinator.state.open_store import open_store_if_usable


async def plan_build(request: BuildRequest, inventory: Inventory, env: Environment, emit: Emit) -> Plan:
    """Return the plan of this request. Hosts are probed, but get no job; no registry is asked."""
    report_inventory(inventory, emit)
    check_names(request.selection.names, inventory.hosts)
    dockerfile = read_dockerfile(request.target)
    async with AsyncExitStack() as stack:
        fact_cache = FactCache(stack.enter_context(open_store_if_usable(env, emit)), env.clock)
        farm = await stack.enter_async_context(Farm(inventory, env))
        probing = await stack.enter_async_context(Probing(farm, inventory, fact_cache, env, emit))
        request = await with_platforms(request, inventory, probing, emit)
        jobs = wanted(dockerfile, request.target.platforms)
        outcomes = await probing.facts_for_planning(jobs, request.selection, least=ProbePriority.SPARE)
        return plan_for(request, inventory, outcomes, farm, jobs)
