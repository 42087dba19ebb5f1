"""What earlier runs left on a host when their coordinator died, removed when nobody can want it any more."""

from __future__ import annotations

import asyncio
import contextlib

from coordinator.domain.inventory import Host
from coordinator.errors import ArchloomError
from coordinator.hosts.agent import AgentClient

_RUNNING = "BUILDING"
_PATIENCE_S = 20.0


async def sweep(client: AgentClient, host: Host, host_time: float) -> None:
    """Forgets jobs that ended, or never began, longer than `keep_built` ago by the host's own clock.

    A job that runs is never touched. A host that fails here is used all the same: the next run sweeps again.
    """
    with contextlib.suppress(ArchloomError, TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            jobs = await client.jobs()
            old = [one.job for one in jobs if one.state != _RUNNING and host_time - one.since > host.keep_built]
            await asyncio.gather(*map(client.forget, old))
