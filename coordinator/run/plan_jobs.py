"""Which hosts may build the jobs of a run, from a probe of those that matter."""

from __future__ import annotations

from collections.abc import Collection

from coordinator.domain.image.platforms import Platform
from coordinator.domain.placement.plan import Plan
from coordinator.domain.targets.request import BuildRequest
from coordinator.farm.candidates import plan_for, wanted
from coordinator.run.inputs.disk_estimate import spaces
from coordinator.run.inputs.gather import Inputs
from coordinator.run.session import Session


async def plan_jobs(request: BuildRequest, inputs: Inputs, platforms: Collection[Platform], session: Session) -> Plan:
    """The plan for these platforms. A platform without a host is in it too: the caller decides whether that matters."""
    jobs = wanted(inputs.dockerfile, list(platforms), await spaces(inputs, list(platforms), session.registries))
    facts = await session.probing.to_place(jobs, request.asked)
    return plan_for(request, session.inventory, facts, session.farm, jobs)
