"""Adopt: instead of building, publish the image that an earlier run built of the same inputs and left on its host."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from coordinator.domain.image.platforms import Platform
from coordinator.domain.run.events import Notice
from coordinator.domain.run.model import Attempt, Run
from coordinator.domain.targets.request import BuildRequest
from coordinator.errors import LostError
from coordinator.farm.cleanup import is_old
from coordinator.run.inputs.gather import Inputs
from coordinator.run.inputs.reuse import accepted_modes
from coordinator.run.session import Session
from coordinator.store.sqlite import Store

_BUILT = "BUILT"


async def find_kept(
    request: BuildRequest, inputs: Inputs, platforms: Collection[Platform], session: Session
) -> dict[Platform, Attempt]:
    """Return the attempts of ended runs whose images these platforms need, and whose hosts answer and still have them.

    A build id names everything that an image depends on, so that the image is the one that would be built.
    """
    modes = accepted_modes(request.emulate)
    stored = {
        platform: [
            attempt
            for attempt in session.store.kept_attempts(inputs.build_ids[platform], platform)
            if attempt.mode in modes and _may_have(attempt.host, request.selection.on_for(platform), session)
        ]
        for platform in platforms
    }
    hosts = {attempt.host for kept in stored.values() for attempt in kept}
    if not hosts:
        return {}
    await session.probing.all(hosts)
    held = {host: await _held(host, session) for host in hosts}
    found: dict[Platform, Attempt] = {}
    for platform, kept in stored.items():
        there = [attempt for attempt in kept if attempt.agent_job in held[attempt.host]]
        if there:
            found[platform] = there[0]
        elif kept:
            host = kept[0].host
            why = "no longer has it" if host in session.farm.facts else "does not answer"
            session.emit(Notice(f"{platform} was built on {host}, which {why}: it is built again"))
    return found


def adopt(store: Store, run: Run, kept: Mapping[Platform, Attempt]) -> None:
    """Commit the adopted attempts: their jobs go on with the push."""
    for job in run.jobs:
        if job.platform in kept:
            store.adopt(job.id, kept[job.platform])


def _may_have(host: str, on: Collection[str], session: Session) -> bool:
    return host in session.farm.hosts and (not on or host in on)


async def _held(host: str, session: Session) -> frozenset[str]:
    """Return the jobs whose images the host holds and keeps; none where it does not answer."""
    if host not in session.farm.facts:
        return frozenset()
    try:
        client = await session.farm.client(host)
        built = [entry for entry in await client.jobs() if entry.state == _BUILT]
    except LostError:
        return frozenset()
    # What is old is deleted as soon as this run sweeps the host.
    host_time = session.farm.host_time(host)
    return frozenset(entry.job for entry in built if not is_old(entry, session.farm.hosts[host], host_time))
