"""Agents on boards over SSH, as a user with this home reaches them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from coordinator.domain.hosts.inventory import Address, Host, Kind
from coordinator.errors import LostError
from coordinator.hosts.agent.client import AgentClient, connect
from coordinator.hosts.ssh.login_limiter import LoginLimiter
from coordinator.hosts.ssh.transport import SshTransport, ssh
from tests.services.boards import Board


def host(board: Board, **fields: object) -> Host:
    return Host(name=board.name, kind=Kind.BOARD, address=Address(host=board.name), **fields)


@asynccontextmanager
async def transport(entry: Host, user: Path) -> AsyncIterator[SshTransport]:
    way = ssh(entry, {"HOME": str(user)}, LoginLimiter())
    try:
        yield way
    finally:
        await way.close()


@asynccontextmanager
async def agent(entry: Host, user: Path) -> AsyncIterator[AgentClient]:
    async with transport(entry, user) as way:
        client = await connect(way)
        try:
            yield client
        finally:
            await client.close()


async def refusal(entry: Host, user: Path) -> LostError:
    with pytest.raises(LostError) as refused:
        async with agent(entry, user):
            pass
    return refused.value
