"""Delete what earlier runs left on a host and no run needs any more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from coordinator.domain.hosts.inventory import Host
from coordinator.errors import ArchloomError

if TYPE_CHECKING:
    from coordinator.hosts.agent.client import AgentClient
    from coordinator.hosts.agent.replies import JobEntry

# Takes the name of a job; None where the job's age decides.
Unwanted = Callable[[str], bool | None]

_SWEEP_TIMEOUT_S = 20.0


async def sweep(client: AgentClient, host: Host, host_time: float, unwanted: Unwanted) -> None:
    """Delete the jobs that are `unwanted`, and jobs of any user that ended, or never began, over `keep_built` ago.

    A job that a run needs stays, however old it is, and so does a running job that is not `unwanted`. Errors are
    ignored: the host is used all the same, and the next run sweeps it again. `host_time` is the host's clock, in epoch
    seconds.
    """
    with contextlib.suppress(ArchloomError, TimeoutError):
        async with asyncio.timeout(_SWEEP_TIMEOUT_S):
            old = [
                entry.job
                for entry in await client.jobs()
                # Delete also a running job of an ended run: the run lost its host, and the result is not used.
                if (is_unwanted := unwanted(entry.job)) or (is_unwanted is None and is_old(entry, host, host_time))
            ]
            await asyncio.gather(*map(client.forget, old))


def is_old(entry: JobEntry, host: Host, host_time: float) -> bool:
    """Return whether the job ended, or was last changed without beginning, over `keep_built` ago."""
    return not entry.is_running and host_time - entry.since > host.keep_built
