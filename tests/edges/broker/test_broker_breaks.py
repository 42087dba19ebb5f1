"""The broker between registries and boards that answer early, leave, die or fall silent in the middle of a body."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from coordinator.broker.grant import Grant
from coordinator.broker.server import Broker
from coordinator.broker.upstream_connections import Connections
from coordinator.domain.hosts.inventory import RegistrySettings
from coordinator.domain.image.descriptors import sha256
from coordinator.domain.image.references import Reference
from coordinator.errors import RegistryError
from coordinator.publish.registry_pool import Registries
from coordinator.publish.upstream import Upstream
from coordinator.registry.endpoint import Endpoint, resolve, system_tls
from tests.edges.broker.broker_bed import LAYER, Bed, Board, Connected, Known, brokered, listening, read_head, refused
from tests.edges.registry.scripted_server import self_signed


@asynccontextmanager
async def before(serve: Connected) -> AsyncIterator[Bed]:
    async with listening(serve) as port, brokered() as bed:
        with bed.broker.grant("job1", push=Reference(f"127.0.0.1:{port}", "team/app")):
            yield bed


def unwatched(*, moves: bool = False) -> nullcontext[None]:
    """A registry whose silence nobody is told of."""
    return nullcontext()


def grant_of(bed: Bed) -> Grant:
    return bed.broker._grants["job1"]


async def endless(board: Board) -> None:
    """Sends pieces of a chunked body until nobody takes them."""
    try:
        while True:
            board.writer.write(b"40000\r\n" + bytes(0x40000) + b"\r\n")
            await board.writer.drain()
    except ConnectionError:
        pass


async def test_heads_share_one_connection() -> None:
    """A push asks for dozens of layers by HEAD: neither side connects anew for each."""
    connections = 0

    async def registry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await read_head(reader, writer):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")

    async with before(registry) as bed, bed.board(grant_of(bed)) as board:
        answers = [await board.ask("HEAD", f"/v2/push/blobs/{sha256(LAYER)}") for _ in range(20)]

    assert {(one.status, one.headers["content-length"]) for one in answers} == {(200, "7")}
    # One is the registry client's own, for its ping.
    assert connections == 2


async def test_a_refusal_in_the_middle_of_a_body_arrives_at_once() -> None:
    """The registry says no after a few bytes: the board reads its words while it is still sending, then it is over."""

    async def registry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader, writer)
        await reader.read(1000)
        body = refused(413, "DENIED", "the quota of team is used up").body
        writer.write(b"HTTP/1.1 413 Large\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        await asyncio.Event().wait()

    async with before(registry) as bed, bed.board(grant_of(bed)) as board:
        await board.send("PATCH", await board.upload(), transfer_encoding="chunked")
        sending = asyncio.ensure_future(endless(board))
        async with asyncio.timeout(5):
            answer = await board.answer()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    assert (answer.status, answer.headers["connection"]) == (403, "close")
    assert "the quota of team is used up" in answer.message
    assert board.grant.refusal is not None
    assert board.grant.refusal.code == "denied"


async def test_a_registry_that_dies_in_the_middle_may_be_asked_again() -> None:
    """A connection that breaks under a layer ends the push at once: the run waits, and the next one passes."""
    deaths = 0

    async def registry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal deaths
        await read_head(reader, writer)
        if not deaths:
            deaths += 1
            await reader.readexactly(3)
            return
        await reader.readexactly(len(LAYER))
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with before(registry) as bed:
        async with bed.board(grant_of(bed)) as board:
            first = await board.ask("PATCH", await board.upload(), LAYER)
            trouble = board.grant.refusal
        async with bed.board(grant_of(bed)) as board:
            second = await board.ask("PATCH", await board.upload(), LAYER)

    assert (first.status, second.status) == (403, 202)
    assert first.message.startswith("archloom: ")
    assert trouble is not None
    assert trouble.code == "unreachable"
    # What the engine makes of its failed push tells nothing.
    assert board.grant.refusal is trouble


@pytest.mark.parametrize("leave", ["closed", "reset"])
@pytest.mark.parametrize("framing", [{"transfer_encoding": "chunked"}, {"content_length": "100000"}])
async def test_a_board_that_leaves_in_the_middle_leaves_nothing_whole(framing, leave) -> None:
    """The registry sees a broken connection, never the end of a body."""
    arrived = asyncio.Event()
    seen: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def registry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader, writer)
        await reader.readexactly(6)
        arrived.set()
        try:
            seen.set_result(await reader.read())
        except ConnectionError:
            seen.set_result(b"")

    async with before(registry) as bed:
        async with bed.board(grant_of(bed)) as board:
            await board.send("PATCH", await board.upload(), b"5\r\nhel", **framing)
            await arrived.wait()
            if leave == "reset":
                own = board.writer.get_extra_info("socket")
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        async with asyncio.timeout(5):
            assert await seen == b""
    assert board.grant.refusal is None


async def test_an_answer_before_the_end_of_a_body_ends_the_connection() -> None:
    """What follows an early answer is the rest of a body, never a request."""

    async def registry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader, writer)
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        await asyncio.Event().wait()

    async with before(registry) as bed, bed.board(grant_of(bed)) as board:
        await board.send("PATCH", await board.upload(), content_length="10000")
        answer = await board.answer()
        await board.send("GET", "/v2/")
        board.writer.write_eof()

        assert (answer.status, answer.headers["connection"]) == (202, "close")
        assert await board.ended()


async def test_a_silence_is_not_tried_again() -> None:
    """A registry that says nothing on an old connection is given up at once, not asked on every other one."""
    requests = 0

    async def registry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        for _ in range(2):
            await read_head(reader, writer)
            requests += 1
            if requests == 1:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
        await reader.read()

    async with listening(registry) as port:
        endpoint = resolve(RegistrySettings(host=f"127.0.0.1:{port}"))
        connections = Connections(answer_timeout=0.1)
        async with connections.request(endpoint, "HEAD", f"{endpoint.url}/v2/", {"Host": "x"}, unwatched) as exchange:
            assert exchange.answer.status == 200
        with pytest.raises(RegistryError, match=r"did not answer HEAD: no data for 0\.1 s"):
            async with connections.request(endpoint, "HEAD", f"{endpoint.url}/v2/", {"Host": "x"}, unwatched):
                pass
        await connections.close()

    assert requests == 2


async def test_a_redirect_to_https_keeps_its_connection(tmp_path, monkeypatch) -> None:
    """A registry without TLS may keep its blobs behind it: not each of them costs a handshake and the certificates."""
    greeted = 0

    async def storage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal greeted
        greeted += 1
        for _ in range(2):
            await read_head(reader, writer)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
        await reader.read()

    server = await asyncio.start_server(storage, "127.0.0.1", 0, ssl=self_signed(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    system_tls.cache_clear()
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/blob"
        connections = Connections()
        for _ in range(2):
            endpoint = resolve(RegistrySettings(host="127.0.0.1:5000"))
            async with connections.request(endpoint, "HEAD", url, {"Host": "x"}, unwatched) as exchange:
                assert exchange.answer.status == 200
        await connections.close()
    system_tls.cache_clear()

    assert greeted == 1


async def test_a_registry_that_is_down_is_told_in_plain_words() -> None:
    """The text reaches the user through the engine."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        endpoint = resolve(RegistrySettings(host=address))
        connections = Connections()
        with pytest.raises(RegistryError) as down:
            async with connections.request(endpoint, "HEAD", f"{endpoint.url}/v2/", {"Host": "x"}, unwatched):
                pass
        await connections.close()

    assert down.value.message == f"cannot reach {address}: connection refused"


class Defective(Upstream):
    """An upstream with a mistake in it."""

    async def endpoint(self, registry: str) -> Endpoint:
        raise KeyError(registry)


async def test_a_defect_of_ours_is_the_job_s_reason() -> None:
    """What nobody foresaw is a 500 in our words and the grant's refusal, with its place; the connection goes on."""
    async with (
        Registries({}, Known()) as registries,
        Broker(Defective(registries)) as broker,
        listening(broker) as port,
    ):
        with broker.grant("job1", push=Reference("nas.lan", "team/app")) as grant:
            async with Bed(broker, port).board(grant) as board:
                answers = [await board.ask("POST", "/v2/push/blobs/uploads/"), await board.ask("GET", "/v2/")]

    assert [answer.status for answer in answers] == [500, 200]
    assert grant.refusal is not None
    assert answers[0].message == f"archloom: {grant.refusal.message}"
    assert grant.refusal.code == "internal"
    assert grant.refusal.message.startswith(f"bug: KeyError: 'nas.lan' ({Path(__file__).name}:")


async def test_what_is_stuck_ends_when_it_is_ended() -> None:
    """A registry that takes nothing and says nothing does not keep a cancelled broker."""

    async def registry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader, writer)
        await asyncio.Event().wait()

    async with asyncio.timeout(5):
        async with before(registry) as bed, bed.board(grant_of(bed)) as board:
            await board.send("PATCH", await board.upload(), transfer_encoding="chunked")
            # Long enough to fill every buffer on the way.
            with suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await endless(board)


async def test_a_board_that_stops_in_the_middle_is_silent_since_then() -> None:
    """Its client gives it up by that. Once all has come, the registry is waited for, and the board is not silent."""
    arrived = asyncio.Event()

    async def registry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader, writer)
        await reader.readexactly(3)
        arrived.set()
        await reader.readexactly(2)
        await asyncio.Event().wait()

    async with before(registry) as bed, bed.board(grant_of(bed)) as board:
        await board.send("PATCH", await board.upload(), b"hel", content_length="5")
        await arrived.wait()
        silent_since = board.grant.last_byte()
        await asyncio.sleep(0.01)
        assert board.grant.last_byte() == silent_since < time.monotonic()
        board.writer.write(b"lo")
        async with asyncio.timeout(20):
            while board.grant.last_byte() == silent_since:
                await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        first = board.grant.last_byte()
        await asyncio.sleep(0.01)
        assert board.grant.last_byte() > first > silent_since
