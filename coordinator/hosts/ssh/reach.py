"""Whether a host's SSH port takes connections, without a login."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from coordinator import deadlines
from coordinator.domain.hosts.inventory import Host
from coordinator.errors import UsageError
from coordinator.hosts.ssh.route import read_route


async def takes_connections(host: Host) -> bool:
    """Return whether the port takes a connection within a second; False where a jump host or a command leads there."""
    try:
        route = await asyncio.to_thread(read_route, host.address, Path.home())
    except UsageError:
        return False
    if route.jump is not None or route.proxy:
        return False
    try:
        async with asyncio.timeout(deadlines.PORT):
            _, writer = await asyncio.open_connection(route.host, route.port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True
