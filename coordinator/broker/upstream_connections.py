"""Requests to registries with relayed bodies: connections, request and response heads, raw bodies both ways."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11

from coordinator import deadlines
from coordinator.broker.http1 import (
    PIECE,
    Body,
    BodyEnd,
    Framing,
    Head,
    Source,
    Watch,
    WireError,
    read_response,
)
from coordinator.errors import RegistryCode, RegistryError
from coordinator.registry.endpoint import Endpoint, system_tls
from coordinator.registry.faults import connection_reason

_MAX_IDLE_PER_ADDRESS = 8


@dataclass(frozen=True, slots=True)
class _Address:
    host: str
    port: int
    tls: ssl.SSLContext | None


@dataclass(slots=True)
class _Connection:
    address: _Address
    source: Source
    writer: asyncio.StreamWriter
    used: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """One answered request. `body` is the unread body of the answer, `url` where it came from, after redirects."""

    url: str
    answer: Head
    body: Body


class Connections:
    """Connections to registries, kept open between requests: a push sends dozens of HEAD requests.

    A registry that neither sends nor takes a byte of a body for `idle_timeout` seconds counts as unreachable, and so
    does one that does not answer in `answer_timeout` seconds, or `blob_timeout` where a blob ends.
    """

    def __init__(
        self,
        idle_timeout: float = deadlines.BODY_IDLE,
        answer_timeout: float = deadlines.REGISTRY_ANSWER,
        blob_timeout: float = deadlines.BLOB_END,
    ) -> None:
        self._idle_timeout = idle_timeout
        self._answer_timeout = answer_timeout
        self._blob_timeout = blob_timeout
        self._idle: dict[_Address, list[_Connection]] = {}

    async def close(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                await _end(connection)
        self._idle.clear()

    @contextlib.asynccontextmanager
    async def request(
        self,
        endpoint: Endpoint,
        method: str,
        url: str,
        headers: Mapping[str, str],
        watch: Watch,
        body: Body | None = None,
    ) -> AsyncIterator[Exchange]:
        """Send one request and yield its answer, which can be read while the block runs. `watch` tells of its silence.

        A request with a body gets a new connection, because a body cannot be sent twice. An answer that arrives before
        the end of the body stops the sending. Raises RegistryError `unreachable` where there is no answer, WireError
        where the *request body* breaks off, which is a failure of its sender.
        """
        address = _address(endpoint, url)
        # A PUT ends a blob; after the body of another request the registry has nothing to hash.
        answer_timeout = self._idle_timeout if body is not None else self._answer_timeout
        if method == "PUT":
            answer_timeout = self._blob_timeout
        talk = _Talk(method, url, headers, body, watch, self._idle_timeout, answer_timeout)
        connection, answer, body_sent = await self._exchange(address, endpoint.registry, talk)
        exchange = Exchange(url, answer, Body(connection.source, answer.framing, self._idle_timeout, watch))
        done = False
        try:
            yield exchange
            done = body_sent and answer.keep_alive and exchange.body.over and not connection.source.has_unread
        finally:
            if done and len(self._idle.setdefault(address, [])) < _MAX_IDLE_PER_ADDRESS:
                self._idle[address].append(connection)
            else:
                await _end(connection)

    async def _exchange(self, address: _Address, registry: str, talk: _Talk) -> tuple[_Connection, Head, bool]:
        while True:
            connection = await self._take(address, registry, fresh=talk.body is not None)
            try:
                answer, body_sent = await talk.converse(connection)
            except _NoAnswerError as error:
                await _end(connection)
                # The registry may close an idle connection at any time: take the next connection.
                if not connection.used:
                    raise _unanswered(address, registry, talk.method, str(error)) from error
            except _SilentError as error:
                # A timeout is no sign of a stale connection: a new connection would time out too.
                await _end(connection)
                raise _unanswered(address, registry, talk.method, str(error), error.seconds) from error
            except BaseException:
                await _end(connection)
                raise
            else:
                connection.used = True
                return connection, answer, body_sent

    async def _take(self, address: _Address, registry: str, *, fresh: bool) -> _Connection:
        idle = self._idle.get(address, [])
        if idle and not fresh:
            return idle.pop()
        try:
            async with asyncio.timeout(deadlines.REGISTRY_CONNECT):
                reader, writer = await asyncio.open_connection(address.host, address.port, ssl=address.tls, limit=PIECE)
        except (OSError, TimeoutError) as error:
            raise RegistryError(
                f"cannot reach {address.host}:{address.port}: {connection_reason(error)}",
                code=RegistryCode.UNREACHABLE,
                registry=registry,
            ) from error
        return _Connection(address, Source(reader), writer)


class _NoAnswerError(Exception):
    """The registry closed the connection without an answer."""


class _SilentError(Exception):
    """The registry neither answers nor takes more of a body, for so many seconds."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


def _unanswered(address: _Address, registry: str, method: str, reason: str, waited: float = 0.0) -> RegistryError:
    return RegistryError(
        f"{address.host}:{address.port} did not answer {method}: {reason}",
        code=RegistryCode.UNREACHABLE,
        registry=registry,
        waited=waited,
    )


@dataclass(frozen=True, slots=True)
class _Talk:
    """One request, and how long its registry may be silent."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: Body | None
    watch: Watch
    idle_timeout: float
    answer_timeout: float

    async def converse(self, connection: _Connection) -> tuple[Head, bool]:
        """Return the answer's head, and whether the whole body was sent."""
        parser = h11.Connection(h11.CLIENT)
        head = _head(parser, self.method, self.url, self.headers, self.body)
        sending = asyncio.ensure_future(self._send(connection.writer, head))
        reading = asyncio.ensure_future(_read(parser, connection.source, self.method))
        try:
            await asyncio.wait((sending, reading), return_when=asyncio.FIRST_COMPLETED)
            # An OSError comes from writing to the registry, which may still have answered. Other errors are the body's.
            broken = sending.exception() if sending.done() else None
            if broken is not None and not isinstance(broken, OSError):
                raise broken
            try:
                with self.watch():
                    async with asyncio.timeout(self.answer_timeout):
                        answer = await reading
            except TimeoutError as error:
                raise _SilentError(f"no data for {self.answer_timeout:g} s", self.answer_timeout) from error
            # Pass an early answer on at once: the registry reads no more of the body.
            return answer, sending.done() and sending.exception() is None
        finally:
            for task in (sending, reading):
                task.cancel()
            await asyncio.gather(sending, reading, return_exceptions=True)

    async def _send(self, writer: asyncio.StreamWriter, head: bytes) -> None:
        await self._write(writer, head)
        if self.body is not None:
            async with contextlib.aclosing(self.body.pieces()) as pieces:
                async for piece in pieces:
                    await self._write(writer, piece)

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        try:
            with self.watch(moves=True):
                async with asyncio.timeout(self.idle_timeout):
                    await writer.drain()
        except TimeoutError as error:
            raise _SilentError(f"it takes no data for {self.idle_timeout:g} s", self.idle_timeout) from error


def _head(parser: h11.Connection, method: str, url: str, headers: Mapping[str, str], body: Body | None) -> bytes:
    all_headers = [*headers.items(), *_framing_headers(method, body)]
    try:
        return parser.send(h11.Request(method=method, target=_target(url), headers=all_headers)) or b""
    except (h11.LocalProtocolError, UnicodeError) as error:
        # The URL may come from a Location header of the registry.
        shown = url.partition("?")[0]
        raise RegistryError(f"'{shown}' is not a valid request URL: {error}", code="malformed") from error


async def _read(parser: h11.Connection, source: Source, method: str) -> Head:
    try:
        return await read_response(parser, source, method)
    except OSError as error:
        raise _NoAnswerError((error.strerror or type(error).__name__).lower()) from error
    except WireError as error:
        raise _NoAnswerError(str(error)) from error


async def _end(connection: _Connection) -> None:
    # Abort instead of close: unsent bytes belong to a message that will not be completed.
    connection.writer.transport.abort()
    with contextlib.suppress(OSError, ssl.SSLError):
        await connection.writer.wait_closed()


def _framing_headers(method: str, body: Body | None) -> list[tuple[str, str]]:
    framing = body.framing if body is not None else Framing(BodyEnd.EMPTY)
    match framing.end:
        case BodyEnd.LENGTH:
            return [("Content-Length", str(framing.length))]
        case BodyEnd.CHUNKS:
            return [("Transfer-Encoding", "chunked")]
        case BodyEnd.EMPTY | BodyEnd.CLOSE:
            return [("Content-Length", "0")] if method in ("POST", "PUT", "PATCH") else []


def _address(endpoint: Endpoint, url: str) -> _Address:
    parts = urlsplit(url)
    host = parts.hostname or endpoint.host
    if endpoint.owns(url):
        return _Address(host, endpoint.port, endpoint.tls)
    secure = parts.scheme == "https"
    tls = (endpoint.tls or system_tls()) if secure else None
    return _Address(host, parts.port or (443 if secure else 80), tls)


def _target(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
