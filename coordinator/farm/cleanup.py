"""What earlier runs left on a host, removed when nobody can want it any more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from coordinator.domain.hosts.inventory import Host
from coordinator.errors import ArchloomError
from coordinator.hosts.agent.client import AgentClient

_RUNNING = "BUILDING"
_PATIENCE_S = 20.0


async def sweep(client: AgentClient, host: Host, host_time: float, unwanted: Callable[[str], bool]) -> None:
    """Forgets our own jobs that are unwanted, and anybody's that ended or never began longer than `keep_built` ago.

    Of others, a job that runs is never touched. A host that fails here is used all the same: the next run sweeps again.
    """
    with contextlib.suppress(ArchloomError, TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            old = [
                entry.job
                for entry in await client.jobs()
                # One that still runs for a run that is over was lost with its host, and builds for nobody.
                if unwanted(entry.job) or (entry.state != _RUNNING and host_time - entry.since > host.keep_built)
            ]
            await asyncio.gather(*map(client.forget, old))
