"""Plan the jobs of a run, from a probe of the hosts that may take them."""

from __future__ import annotations

from collections.abc import Collection

from coordinator.domain.dockerfile.newer_syntax import newer_syntax
from coordinator.domain.image.platforms import Platform
from coordinator.domain.placement.candidates import Candidates
from coordinator.domain.placement.plan import Plan
from coordinator.domain.placement.probe_deadline import ProbePriority
from coordinator.domain.targets.request import BuildRequest
from coordinator.farm.candidates import candidates, plan_for, report_skipped_hosts, wanted
from coordinator.run.inputs.disk_estimate import spaces
from coordinator.run.inputs.dockerfile_place import copied_dockerfile
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
    space = spaces(inputs, list(platforms))
    copied = {platform: copied_dockerfile(inputs, platform) for platform in platforms}
    jobs = wanted(inputs.frontend, list(platforms), space, copied, newer_syntax(inputs.dockerfile))
    facts = await session.probing.facts_for_planning(jobs, request.selection, least)
    return plan_for(request, session.inventory, facts, session.farm, jobs)


async def choose_hosts(
    request: BuildRequest,
    inputs: Inputs,
    platforms: Collection[Platform],
    session: Session,
    needed: Collection[Platform],
) -> Candidates:
    """Return the hosts for these platforms, from a plan; emit which hosts it could not use.

    Raises NoHostError or LostError where a `needed` platform has no host.
    """
    plan = await plan_jobs(request, inputs, platforms, session)
    chosen = candidates(plan, needed=needed)
    report_skipped_hosts(plan, session.emit)
    return chosen
