"""`archloom plan`: which host would build which platform, and why."""

from __future__ import annotations

from contextlib import AsyncExitStack

from coordinator.domain.hosts.inventory import Inventory
from coordinator.domain.placement.host_names import check_names
from coordinator.domain.placement.plan import Plan
from coordinator.domain.placement.probe_deadline import ProbePriority
from coordinator.domain.run.events import Emit, Notice
from coordinator.domain.targets.request import BuildRequest
from coordinator.environment import Environment
from coordinator.farm.candidates import with_platforms
from coordinator.run.inputs.gather import gather
from coordinator.run.inputs.taken_context import described
from coordinator.run.plan_jobs import plan_jobs
from coordinator.run.session import open_session
from coordinator.state.open_store import open_store_if_usable
from coordinator.usecases.inventory_notice import report_inventory


async def plan_build(request: BuildRequest, inventory: Inventory, env: Environment, emit: Emit) -> Plan:
    """Return the plan of this request, as if nothing could be reused. Hosts are probed, but get no job.

    The registries of the bases are asked, the repositories of the target are not. Raises UsageError for inputs that
    no build would accept.
    """
    check_names(request.selection.names, inventory.hosts)
    report_inventory(inventory, emit)
    async with AsyncExitStack() as stack:
        store = stack.enter_context(open_store_if_usable(env, emit))
        session = await stack.enter_async_context(open_session(inventory, env, store, emit))
        request = await with_platforms(request, inventory, session.probing, emit)
        inputs = await gather(request, session.registries, env, emit)
        for notice in (*described(inputs.contexts), *inputs.notices):
            emit(Notice(notice))
        return await plan_jobs(request, inputs, request.target.platforms, session, least=ProbePriority.SPARE)
