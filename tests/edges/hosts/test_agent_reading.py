"""The one reader that all calls of a client share, and what is kept of channels and tunnels that have ended."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from collections.abc import Mapping
from pathlib import Path

import pytest

from coordinator.errors import LostError
from coordinator.hosts.agent.client import AgentClient, connect
from coordinator.hosts.agent.local import LocalTransport
from coordinator.hosts.agent.transport import ConnectionHandler, Ending, Tunnel
from tests.services.paths import CASES

HELLO = (CASES / "wire" / "hello.txt").read_bytes()


class Wire:
    """A host whose only channel says what a test feeds to `reader`.

    Once `deaf`, every write fails; once `is_full`, none is taken.
    """

    host = "pi5"

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader()
        self.writer = self
        self.written: asyncio.Queue[bytes] = asyncio.Queue()
        self.deaf = False
        self.is_full = False

    async def open_control(self) -> Wire:
        return self

    async def open_bulk(self, arguments: tuple[str, ...]) -> Wire:
        raise NotImplementedError(arguments)

    async def listen(self, handler: ConnectionHandler) -> Tunnel:
        raise NotImplementedError(handler)

    def write(self, data: bytes, /) -> None:
        self.written.put_nowait(data)

    async def drain(self) -> None:
        if self.deaf:
            raise BrokenPipeError
        if self.is_full:
            await asyncio.Event().wait()

    def write_eof(self) -> None:
        raise NotImplementedError

    async def close(self) -> Ending:
        return Ending(None)

    async def abort(self) -> None:
        pass


async def connected(wire: Wire) -> tuple[AgentClient, asyncio.Task[Mapping[str, object]]]:
    """A client, and a call of it that waits for its answer."""
    wire.reader.feed_data(HELLO)
    client = await connect(wire)
    asking = asyncio.create_task(client.probe())
    await wire.written.get()
    return client, asking


async def test_a_caller_that_leaves_a_deaf_agent_disturbs_nobody() -> None:
    """A call that could not be sent and is then cancelled does not end the reading that others wait for."""
    wire = Wire()
    client, asking = await connected(wire)
    wire.deaf = True
    leaving = asyncio.create_task(client.jobs())
    await wire.written.get()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    wire.reader.feed_data(b'{"id": 1, "ok": {"cores": 4}}\n')
    assert await asking == {"cores": 4}
    wire.reader.feed_eof()
    await client.close()


async def test_a_reading_that_ends_by_a_defect_is_a_lost_channel() -> None:
    """Calls under way and calls to come are told, the client is lost, and who closes it learns the defect."""
    wire = Wire()
    client, asking = await connected(wire)
    wire.reader.set_exception(ZeroDivisionError("a defect"))
    async with asyncio.timeout(5):
        with pytest.raises(LostError):
            await asking
        with pytest.raises(LostError) as later:
            await client.jobs()
    assert (client.lost, later.value.code) == (True, "connection")
    with pytest.raises(ZeroDivisionError, match="a defect"):
        await client.close()


async def test_a_cancelled_reading_is_a_lost_channel() -> None:
    """Where everything is cancelled, as at the end of a loop, nobody waits for ever and closing is quiet."""
    wire = Wire()
    before = asyncio.all_tasks()
    client, asking = await connected(wire)
    for task in asyncio.all_tasks() - before - {asking}:
        task.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(LostError):
            await asking
        assert client.lost
        await client.close()


async def test_a_closed_channel_is_not_kept() -> None:
    """A run opens a channel for every context: a transport remembers those that are open."""
    transport = LocalTransport(("sh", "-c"))
    channel = await transport.open_bulk(("cat",))
    seen = weakref.ref(channel)
    await channel.close()
    del channel
    gc.collect()
    assert seen() is None
    await transport.close()


async def test_channels_are_closed_side_by_side(tmp_path: Path) -> None:
    """The patience that one process needs is not added to the next one's: these two end only together."""
    os.mkfifo(tmp_path / "fifo")
    transport = LocalTransport(("sh", "-c"))
    channels = [
        await transport.open_bulk((f"cat; cat {tmp_path}/fifo",)),
        await transport.open_bulk((f"cat; : > {tmp_path}/fifo",)),
    ]
    async with asyncio.timeout(10):
        await transport.close()
    assert [await channel.close() for channel in channels] == [Ending(0), Ending(0)]


async def test_a_tunnel_s_defect_is_told_to_who_closes_the_transport() -> None:
    """What a handler raises ends its own connection, writes nothing by itself, and is not lost."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def break_down(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise ZeroDivisionError("a defect")

    transport = LocalTransport(("sh", "-c"))
    tunnel = await transport.listen(break_down)
    for _ in range(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", tunnel.port)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    with pytest.raises(ZeroDivisionError, match="a defect"):
        await transport.close()
    await transport.close()
    gc.collect()
    assert complaints == []
