"""The broker behind a port that an SSH connection forwards: the same handler, other streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncssh
import pytest

from coordinator.broker.server import Broker
from coordinator.domain.image.descriptors import OCI_MANIFEST, sha256
from coordinator.domain.image.references import Reference
from coordinator.hosts.ssh.tunnel import SshTunnel
from tests.edges.broker.broker_bed import LAYER, MANIFEST, Bed, Script, brokered, client_hello, listening, of, read_head
from tests.edges.registry.scripted_server import scripted


class Everybody(asyncssh.SSHServer):
    """A board that lets everybody in and forwards every port; `lose` ends its side of the latest connection."""

    latest: asyncssh.SSHServerConnection

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        Everybody.latest = conn

    @staticmethod
    def lose() -> None:
        Everybody.latest.abort()

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002
        return False

    def server_requested(self, listen_host: str, listen_port: int) -> bool:  # noqa: ARG002
        return True


@asynccontextmanager
async def forwarded(broker: Broker) -> AsyncIterator[tuple[Bed, asyncssh.SSHClientConnection]]:
    """The broker as the board's loopback sees it."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with (
        asyncssh.listen("127.0.0.1", 0, server_factory=Everybody, server_host_keys=[key]) as board,
        asyncssh.connect(
            "127.0.0.1", board.get_port(), known_hosts=([key.convert_to_public()], [], []), username="pi", config=None
        ) as connection,
    ):
        tunnel = SshTunnel(connection, broker, nothing)
        await tunnel.open("pi5")
        try:
            yield Bed(broker, tunnel.port), connection
        finally:
            await tunnel.close()
            assert tunnel.defect is None


async def nothing() -> None: ...


async def test_a_push_through_an_ssh_tunnel_is_a_push() -> None:
    """Layers and manifests pass, and a TLS greeting is answered in clear, as on a loopback socket."""
    async with scripted(Script()) as upstream, brokered() as local, forwarded(local.broker) as (bed, _):
        with local.broker.grant("job1", push=Reference(upstream.host, "team/app")) as grant:
            async with bed.board(grant) as board:
                large = LAYER * 200
                patched = await board.ask("PATCH", await board.upload(), large)
                put = await board.ask("PUT", f"{patched.headers['location']}?digest={sha256(large)}")
                named = await board.ask("PUT", "/v2/push/manifests/image", MANIFEST, content_type=OCI_MANIFEST)
            async with bed.board(grant) as board:
                board.writer.write(client_hello())
                answer = await board.reader.readexactly(5)
                board.writer.write_eof()
                assert answer == b"HTTP/"
                assert await board.reader.read()

    assert (put.status, named.status) == (201, 201)
    assert of(upstream, "PATCH")[0].body == large
    assert grant.pushed is not None
    assert grant.pushed.digest == sha256(MANIFEST)


@pytest.mark.parametrize("by_the_board", [False, True])
async def test_a_tunnel_that_is_lost_leaves_nothing_whole(*, by_the_board: bool) -> None:
    """The connection to the board dies under a layer: the registry sees a broken body at once, and nobody's refusal."""
    arrived, left = asyncio.Event(), asyncio.Event()

    async def registry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader, writer)
        await reader.readexactly(1000)
        arrived.set()
        try:
            assert await reader.read() == b""
        finally:
            left.set()

    async with listening(registry) as port, brokered() as local, forwarded(local.broker) as (bed, connection):
        with local.broker.grant("job1", push=Reference(f"127.0.0.1:{port}", "team/app")) as grant:
            async with bed.board(grant) as board, asyncio.timeout(5):
                await board.send("PATCH", await board.upload(), bytes(1000), content_length="100000")
                await arrived.wait()
                (Everybody.lose if by_the_board else connection.abort)()
                await left.wait()

    assert grant.refusal is None
