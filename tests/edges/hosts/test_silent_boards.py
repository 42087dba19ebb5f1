"""Boards that fall silent over a real sshd: a cable that is cut, an agent or an engine that is stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator import deadlines
from coordinator.errors import LostError
from coordinator.hosts.agent.client import AgentClient, connect
from tests.edges.hosts.agent_bed import SPEC
from tests.edges.hosts.ssh_bed import host, transport
from tests.services.boards import Board
from tests.services.ssh_home import ssh_home

pytestmark = pytest.mark.slow
OwnBoard = Callable[..., Board]
# For a machine that is busy with other tests.
SPARE = 20.0


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "user"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


async def followed(client: AgentClient) -> None:
    """A build that says nothing: a job that is never started."""
    await client.create("a-1", SPEC)
    async for _ in client.follow("a-1", 0):
        pass


@pytest.mark.parametrize("what", ["cable", "agent"])
async def test_a_board_that_falls_silent_is_lost(own_board: OwnBoard, user: Path, what: str):
    """Within 12 s where nothing comes through, 25 s where only the agent is stopped; a fresh agent cures that."""
    board = own_board(engine=False)
    ssh_home(user, board)
    async with transport(host(board), user) as way:
        client = await connect(way)
        following = asyncio.create_task(followed(client))
        await client.jobs()
        if what == "cable":
            board.unplug()
            limit = deadlines.KEEPALIVE * (deadlines.MAX_UNANSWERED_KEEPALIVES + 1)
        else:
            board.run(f"kill -STOP {client.hello.pid}")
            limit = deadlines.PING * (deadlines.MAX_UNANSWERED_PINGS + 1)
        async with asyncio.timeout(limit + SPARE):
            with pytest.raises(LostError) as lost:
                await following
        assert (lost.value.code, client.lost) == ("connection", True)
        if what == "cable":
            board.plug()
        fresh = await connect(way)
        await fresh.hang_up(client.hello)
        await fresh.create("b-1", SPEC)
        assert await asyncio.to_thread(is_gone, board, client.hello.pid)
        await fresh.close()
        await client.close()


def is_gone(board: Board, pid: int) -> bool:
    """Whether the process ends: a stopped one goes on for that."""
    script = f"for _ in $(seq 400); do [ -d /proc/{pid} ] || exit 0; sleep 0.05; done; ps -p {pid}"
    return not board.run(script).strip()


@pytest.mark.engine
async def test_a_stopped_engine_is_known(own_board: OwnBoard, user: Path):
    """Soon enough to be said within 20 s, and no longer than it lasts."""
    board = own_board()
    ssh_home(user, board)
    async with transport(host(board), user) as way:
        client = await connect(way)
        following = asyncio.create_task(followed(client))
        await until(lambda: not client.engine_silence)
        stopped_at = time.monotonic()
        board.run("pkill -STOP -x dockerd")
        try:
            await until(lambda: client.engine_silence >= deadlines.SILENCE)
            assert client.engine_silence <= time.monotonic() - stopped_at
        finally:
            board.run("pkill -CONT -x dockerd")
        await until(lambda: not client.engine_silence)
        assert client.disk_silence == 0.0
        assert not following.done()
        following.cancel()
        await client.close()


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(deadlines.SILENCE + 2 * SPARE):
        while not done():
            await asyncio.sleep(0.1)
