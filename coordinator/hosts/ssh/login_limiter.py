"""Limits how many SSH connections are opened at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# The limit for one server is half of what sshd takes before it drops connections at random (sshd_config(5),
# MaxStartups 10:30:100): many boards may be behind one jump host.
_MAX_TOTAL, _MAX_PER_SERVER = 64, 5


class LoginLimiter:
    """Limits concurrent handshakes, in total and for each server."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(_MAX_TOTAL)
        self._servers: dict[str, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def turn(self, server: str) -> AsyncIterator[None]:
        to_server = self._servers.setdefault(server, asyncio.Semaphore(_MAX_PER_SERVER))
        async with to_server, self._all:
            yield
