"""What anybody on a board may use of the coordinator through the broker, and that an engine is served all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from coordinator.broker.limits import Limits, keep_newest
from coordinator.broker.server import Broker
from coordinator.domain.image.references import Reference
from coordinator.publish.registry_pool import Registries
from coordinator.publish.upstream import Upstream
from tests.edges.broker.broker_bed import Bed, Known, listening

PUSH = Reference("127.0.0.1:1", "team/app")
HALF = b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Filler: "


@asynccontextmanager
async def brokered(**limits: float) -> AsyncIterator[Bed]:
    async with (
        Registries({}, Known()) as registries,
        Broker(Upstream(registries), Limits(**limits)) as broker,
        listening(broker) as port,
    ):
        yield Bed(broker, port)


async def _said(reader: asyncio.StreamReader) -> bytes:
    """What came until the connection ended, also by a reset."""
    said = b""
    try:
        while data := await reader.read(65536):
            said += data
    except ConnectionError:
        pass
    return said


@asynccontextmanager
async def _half_heads(port: int, count: int) -> AsyncIterator[list[asyncio.StreamReader]]:
    """So many connections of somebody who never ends his request."""
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    try:
        for _, writer in opened:
            writer.write(HALF)
        yield [reader for reader, _ in opened]
    finally:
        for _, writer in opened:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for _, writer in opened), return_exceptions=True)


async def test_strangers_are_few_and_an_engine_is_served():
    """The oldest stranger goes for each that is one too many; who shows a secret is none, however many come."""
    async with asyncio.timeout(60), brokered(strangers=4) as bed:
        with bed.broker.grant("job", push=PUSH) as grant:
            async with bed.board(grant) as early:
                await early.send("GET", "/v2/")
                assert (await early.answer()).status == 200
                async with _half_heads(bed.port, 12) as readers:
                    for reader in readers[:8]:
                        assert await _said(reader) == b""
                    async with bed.board(grant) as late:
                        await late.send("GET", "/v2/")
                        assert (await late.answer()).status == 200
                    await early.send("GET", "/v2/")
                    assert (await early.answer()).status == 200


async def test_a_head_has_to_arrive_in_time():
    """A stranger that says nothing, or half of a request, is left; an engine may be silent between its requests."""
    async with asyncio.timeout(60), brokered(head=0.3) as bed:
        with bed.broker.grant("job", push=PUSH) as grant:
            async with bed.board(grant) as engine, _half_heads(bed.port, 1) as [half]:
                await engine.send("GET", "/v2/")
                assert (await engine.answer()).status == 200
                silent, writer = await asyncio.open_connection("127.0.0.1", bed.port)
                assert await _said(half) == b""
                assert await _said(silent) == b""
                writer.close()
                await engine.send("GET", "/v2/")
                assert (await engine.answer()).status == 200


async def test_a_slow_engine_is_served():
    """Its head arrives byte by byte, over a poor link."""
    async with asyncio.timeout(60), brokered() as bed:
        reader, writer = await asyncio.open_connection("127.0.0.1", bed.port)
        for byte in b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert (await _said(reader)).startswith(b"HTTP/1.1 401 ")
        writer.close()


async def test_a_head_that_is_too_large_is_refused():
    """No client sends 32 KiB of headers."""
    async with asyncio.timeout(60), brokered() as bed:
        reader, writer = await asyncio.open_connection("127.0.0.1", bed.port)
        writer.write(HALF + b"x" * 100_000)
        writer.write_eof()
        assert (await _said(reader)).startswith(b"HTTP/1.1 400 ")
        writer.close()


async def test_a_job_has_so_many_connections():
    """One more is refused as registries do, and may come when another has ended."""
    async with asyncio.timeout(60), brokered(connections=2) as bed:
        with bed.broker.grant("job", push=PUSH) as grant:
            async with bed.board(grant) as first:
                await first.send("GET", "/v2/")
                await first.answer()
                async with bed.board(grant) as second, bed.board(grant) as third:
                    await second.send("GET", "/v2/")
                    await third.send("GET", "/v2/")
                    assert sorted([(await second.answer()).status, (await third.answer()).status]) == [200, 429]
                assert await _until_served(bed, grant) == 200


async def _until_served(bed: Bed, grant: object) -> int:
    """The broker learns of a connection's end a moment after its peer."""
    while True:
        async with bed.board(grant) as board:
            await board.send("GET", "/v2/")
            status = (await board.answer()).status
            if status != 429:
                return status


@pytest.mark.parametrize("count", [3, 5])
def test_what_a_job_never_ends_is_forgotten(count: int):
    """The oldest first, such as uploads that an engine began anew."""
    entries = {str(number): number for number in range(count)}
    keep_newest(entries, 3)
    assert list(entries.values()) == list(range(count))[-3:]
