"""How many connections are being made at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# To one server fewer than sshd's MaxStartups lets pass at once: many boards may be behind one jump host.
_IN_ALL, _TO_ONE_SERVER = 64, 5


class Handshakes:
    """Limits them, in all and to one server."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(_IN_ALL)
        self._servers: dict[str, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def turn(self, server: str) -> AsyncIterator[None]:
        to_server = self._servers.setdefault(server, asyncio.Semaphore(_TO_ONE_SERVER))
        async with to_server, self._all:
            yield
