"""A broker on loopback before any registry, and a board's HTTP client that says exactly what a test wants said."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

from coordinator.broker.grant import Grant
from coordinator.broker.server import Broker
from coordinator.domain.image.descriptors import OCI_MANIFEST, sha256
from coordinator.domain.image.references import Reference
from coordinator.domain.secrets import Credential, Secret
from coordinator.publish.registry_pool import Registries
from coordinator.publish.upstream import Upstream
from tests.edges.registry.scripted_server import HostSelection, Reply, Scripted, scripted

ANN = Credential(username="ann", password=Secret("secret"))
LAYER, CONFIG = b"layer" * 1000, b"{}"
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "c", "digest": sha256(CONFIG), "size": len(CONFIG)},
        "layers": [{"mediaType": "l", "digest": sha256(LAYER), "size": len(LAYER)}],
    }
).encode()
REPOSITORY = "/v2/team/app"
PLACE = f"{REPOSITORY}/blobs/uploads/1"


class Known:
    """A credential source with one answer."""

    def __init__(self, credential: Credential | None = None) -> None:
        self._credential = credential

    def credentials(self, registry: str, repository: str) -> Credential | None:  # noqa: ARG002
        return self._credential


def client_hello() -> bytes:
    """What a TLS client says first."""
    come, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(come, said, server_hostname="127.0.0.1")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return said.read()


Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Connected) -> AsyncIterator[int]:
    """The port of a server on loopback whose connections end with the block."""
    serving: set[asyncio.Task[None]] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(connection(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await server.wait_closed()


async def read_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """The next request's first line, after answering the ping and opening uploads."""
    while True:
        line = (await reader.readuntil(b"\r\n\r\n")).decode().partition("\r\n")[0]
        if line.startswith("GET /v2/ "):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        elif line.startswith("POST "):
            writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nLocation: /v2/team/app/up/1\r\n\r\n")
        else:
            return line


class Bed(NamedTuple):
    """A broker and the port it is served on."""

    broker: Broker
    port: int

    @asynccontextmanager
    async def board(self, grant: Grant) -> AsyncIterator[Board]:
        """A connection of the job's own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Board(reader, writer, grant)
        finally:
            writer.transport.abort()


@asynccontextmanager
async def brokered(credential: Credential | None = None) -> AsyncIterator[Bed]:
    """A broker; registries on loopback are plain http to it."""
    async with (
        Registries({}, Known(credential)) as registries,
        Broker(Upstream(registries)) as broker,
        listening(broker) as port,
    ):
        yield Bed(broker, port)


@dataclass(slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def message(self) -> str:
        """The broker's words in an error."""
        return str(json.loads(self.body)["errors"][0]["message"])


@dataclass(slots=True)
class Board:
    """One connection to the broker."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    grant: Grant

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """One request with its length told, and its answer."""
        await self.send(method, path, body, content_length=str(len(body)), **headers)
        return await self.answer(method)

    async def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        """A head with the job's secret, and the first bytes of a body framed as `headers` say."""
        secret = base64.b64encode(f"{self.grant.job}:{self.grant.secret.reveal()}".encode()).decode()
        lines = [f"{method} {path} HTTP/1.1", "Host: broker", f"Authorization: Basic {secret}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await self.writer.drain()

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer; one that does not come is an error."""
        async with asyncio.timeout(20):
            return await self._answer(method)

    async def _answer(self, method: str) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        length = 0 if method == "HEAD" else int(headers.get("content-length", 0))
        return Answer(int(head[0].split(" ")[1]), headers, await self.reader.readexactly(length))

    async def upload(self) -> str:
        """The place of a new upload."""
        begun = await self.ask("POST", "/v2/push/blobs/uploads/?mount=sha256:0&from=base")
        assert begun.status == 202, begun
        return begun.headers["location"]

    async def ended(self) -> bool:
        """Whether the broker has ended the connection and said nothing more."""
        return await self.reader.read() == b""


def refused(status: int, code: str, message: str) -> Reply:
    return Reply(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode())


class Script:
    """Answers the ping and opens uploads; everything else as told, `METHOD path` by `METHOD path`."""

    def __init__(self) -> None:
        self.said: dict[str, list[Reply]] = {}
        self.ping = Reply()

    def on(self, line: str, *replies: Reply) -> Script:
        """These replies in turn, the last for ever."""
        self.said[line] = list(replies)
        return self

    def __call__(self, asked: HostSelection) -> Reply:
        line = f"{asked.method} {asked.path}"
        if asked.path == "/v2/":
            return self.ping
        if line in self.said:
            return self.said[line].pop(0) if len(self.said[line]) > 1 else self.said[line][0]
        if asked.method == "POST":
            return Reply(202, headers={"Location": f"{PLACE}?_state=a%2Fb"})
        return Reply(202 if asked.method == "PATCH" else 201)


@asynccontextmanager
async def pushing(script: Script, credential: Credential | None = None) -> AsyncIterator[tuple[Board, Scripted]]:
    """A board with a connection of a job that pushes to `team/app` of a scripted registry."""
    async with scripted(script) as upstream, brokered(credential) as bed:
        with bed.broker.grant("job1", push=Reference(upstream.host, "team/app")) as grant:
            async with bed.board(grant) as board:
                yield board, upstream


@asynccontextmanager
async def pulling(script: Script, digest: str) -> AsyncIterator[tuple[Board, Scripted]]:
    """A board of a job whose `base0` is `digest`."""
    async with scripted(script) as upstream, brokered() as bed:
        bases = {"base0": Reference(upstream.host, "team/app", digest=digest)}
        with bed.broker.grant("job1", bases=bases) as grant:
            async with bed.board(grant) as board:
                yield board, upstream


def of(upstream: Scripted, method: str) -> list[HostSelection]:
    return [one for one in upstream.asked if one.method == method]
