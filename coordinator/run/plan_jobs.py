"""Plan the jobs of a run, from a probe of the hosts that may take them."""

from __future__ import annotations

from collections.abc import Collection

from coordinator.domain.image.platforms import Platform
from coordinator.domain.placement.plan import Plan
from coordinator.domain.placement.probe_deadline import ProbePriority
from coordinator.domain.targets.request import BuildRequest
from coordinator.farm.candidates import plan_for, wanted
from coordinator.run.inputs.disk_estimate import spaces
from coordinator.run.inputs.gather import Inputs
from coordinator.run.session import Session


async def plan_jobs(
    request: BuildRequest,
    inputs: Inputs,
    platforms: Collection[Platform],
    session: Session,
    least: ProbePriority = ProbePriority.NONE,
) -> Plan:
    """Return the plan for these platforms. `least` is the minimum probe priority of every host.

    It includes the platforms without a host: the caller decides whether that is an error.
    """
    jobs = wanted(inputs.dockerfile, list(platforms), await spaces(inputs, list(platforms), session.registries))
    facts = await session.probing.facts_for_planning(jobs, request.selection, least)
    return plan_for(request, session.inventory, facts, session.farm, jobs)
