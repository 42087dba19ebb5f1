"""Hosts that were off when the run began: each is asked again now and then, and joins the run once it answers."""

from __future__ import annotations

import asyncio

from coordinator.domain.image.platforms import Platform
from coordinator.domain.placement.eligibility import rejected_unprobed
from coordinator.domain.run import states
from coordinator.domain.run.events import Notice
from coordinator.farm.candidates import candidates
from coordinator.run.context import RunContext
from coordinator.run.inputs.gather import InputsGone
from coordinator.run.plan_jobs import plan_jobs

# A board boots in half a minute, and asking costs a run no more than a connection.
_ASK_EVERY_S = 15.0


async def let_join(run: RunContext) -> None:
    """Ask the late hosts again and again, and add those that answer to the run's hosts. Runs until it is cancelled.

    A host that answered while others were planned with joins too.
    """
    planned = {candidate.host for hosts in run.hosts.candidates.values() for candidate in hosts}
    while not isinstance(run.inputs_or_gone, InputsGone):
        await asyncio.sleep(_ASK_EVERY_S)
        platforms = _unbuilt(run)
        await asyncio.gather(*map(run.session.probing.again, _late(run, platforms)))
        new = run.farm.facts.keys() - planned
        if new and platforms:
            planned |= new
            plan = await plan_jobs(run.request, run.inputs, platforms, run.session)
            joining = run.hosts.join(candidates(plan, needed=()))
            for name in sorted(joining):
                run.emit(Notice(f"{name} answers now, and takes part in this run"))


def _unbuilt(run: RunContext) -> list[Platform]:
    """Return the platforms that another host could still build."""
    jobs = run.store.run(run.run_id).jobs
    return [
        job.platform
        for job in jobs
        if not states.ended(job.state) and not any(not attempt.is_unbuilt for attempt in job.live)
    ]


def _late(run: RunContext, platforms: list[Platform]) -> list[str]:
    """Return the hosts that did not answer the probe, and that the request allows for one of these platforms."""
    selection = run.request.selection
    return [
        host.name
        for host in run.session.inventory.hosts
        if host.name not in run.farm.facts
        and host.name not in run.farm.absences
        and any(
            rejected_unprobed(platform, host, selection.emulate, selection.on_for(platform)) is None
            for platform in platforms
        )
    ]
