"""The fleet's boards carry the agent, a real one or one by script, and the coordinator's own client reaches it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from coordinator.domain.hosts.inventory import Address, Host, Kind
from coordinator.errors import LostError
from coordinator.hosts.agent.client import connect
from coordinator.hosts.ssh.login_limiter import LoginLimiter
from coordinator.hosts.ssh.transport import ssh
from tests.services.fleet import Behaviour, Board, fleet
from tests.services.fleet_agent import observed, probed


def host(board: Board, name: str = "pi5") -> Host:
    pin = board.host_key.export_public_key().decode().strip()
    return Host(name=name, kind=Kind.BOARD, address=Address(board.host, "pi", board.port), host_key=pin)


@pytest.fixture
def user(tmp_path, monkeypatch):
    """The home of a user without keys."""
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return tmp_path / "user"


@asynccontextmanager
async def agent(board: Board, user: Path):
    way = ssh(host(board), {"HOME": str(user)}, LoginLimiter())
    try:
        client = await connect(way)
        try:
            yield client
        finally:
            await client.close()
    finally:
        await way.close()


async def test_a_real_agent_runs_on_a_board(tmp_path, user):
    """It is sent once, finds this machine, keeps to the board's home, and a transport that dies under it is lost."""
    home = tmp_path / "board"
    home.mkdir()
    async with fleet(Behaviour(folder=home, junk=b"Welcome\n")) as made:
        board = made.boards[0]
        async with agent(board, user) as client:
            assert (await client.probe())["uname"]["system"] == "Linux"
            assert client.hello.state.startswith(str(home))
        sent = board.counts.received
        async with agent(board, user) as client:
            assert await client.jobs() == ()
        assert board.counts.received - sent < sent / 4

        board.set(Behaviour(folder=home, drop_after=(1000,)))
        with pytest.raises(LostError, match="the connection was lost"):
            async with agent(board, user) as client:
                await client.probe()


async def test_an_agent_by_script(user):
    """The coordinator's own client takes it for an agent; what it cannot do it refuses."""
    async with fleet(probed(observed("pi4")), probed(observed("pi2"))) as made:
        for board, name in zip(made.boards, ("Raspberry Pi 4", "Raspberry Pi 2"), strict=True):
            async with agent(board, user) as client:
                assert (await client.probe())["board"].startswith(name)
                with pytest.raises(LostError, match="does not jobs"):
                    await client.jobs()
