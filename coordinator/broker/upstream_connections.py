"""Requests to registries with relayed bodies: connections, request and response heads, raw bodies both ways."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11

from coordinator.broker.http1 import (
    IDLE_TIMEOUT_S,
    PIECE,
    Body,
    BodyEnd,
    Framing,
    Head,
    Source,
    WireError,
    read_response,
)
from coordinator.errors import RegistryCode, RegistryError
from coordinator.registry.endpoint import Endpoint, system_tls
from coordinator.registry.faults import CONNECT_TIMEOUT_S, connection_reason

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

    A registry that sends nothing for `idle_timeout` seconds counts as unreachable.
    """

    def __init__(self, idle_timeout: float = IDLE_TIMEOUT_S) -> None:
        self._idle_timeout = idle_timeout
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
        body: Body | None = None,
    ) -> AsyncIterator[Exchange]:
        """Send one request and yield its answer, which can be read while the block runs.

        A request with a body gets a new connection, because a body cannot be sent twice. An answer that arrives before
        the end of the body stops the sending. Raises RegistryError `unreachable` where there is no answer, WireError
        where the *request body* breaks off, which is a failure of its sender.
        """
        address = _address(endpoint, url)
        connection, answer, body_sent = await self._exchange(address, method, url, headers, body)
        exchange = Exchange(url, answer, Body(connection.source, answer.framing))
        done = False
        try:
            yield exchange
            done = body_sent and answer.keep_alive and exchange.body.over and not connection.source.has_unread
        finally:
            if done and len(self._idle.setdefault(address, [])) < _MAX_IDLE_PER_ADDRESS:
                self._idle[address].append(connection)
            else:
                await _end(connection)

    async def _exchange(
        self,
        address: _Address,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None,
    ) -> tuple[_Connection, Head, bool]:
        while True:
            connection = await self._take(address, fresh=body is not None)
            try:
                answer, body_sent = await _converse(connection, method, url, headers, body, self._idle_timeout)
            except _NoAnswerError as error:
                await _end(connection)
                # The registry may close an idle connection at any time: take the next connection.
                if not connection.used:
                    raise _unanswered(address, method, str(error)) from error
            except TimeoutError as error:
                # A timeout is no sign of a stale connection: a new connection would time out too.
                await _end(connection)
                raise _unanswered(address, method, f"no data for {self._idle_timeout:g} s") from error
            except BaseException:
                await _end(connection)
                raise
            else:
                connection.used = True
                return connection, answer, body_sent

    async def _take(self, address: _Address, *, fresh: bool) -> _Connection:
        idle = self._idle.get(address, [])
        if idle and not fresh:
            return idle.pop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(address.host, address.port, ssl=address.tls, limit=PIECE)
        except (OSError, TimeoutError) as error:
            raise RegistryError(
                f"cannot reach {address.host}:{address.port}: {connection_reason(error)}", code=RegistryCode.UNREACHABLE
            ) from error
        return _Connection(address, Source(reader), writer)


class _NoAnswerError(Exception):
    """The registry closed the connection without an answer."""


def _unanswered(address: _Address, method: str, reason: str) -> RegistryError:
    return RegistryError(
        f"{address.host}:{address.port} did not answer {method}: {reason}", code=RegistryCode.UNREACHABLE
    )


async def _converse(
    connection: _Connection,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: Body | None,
    idle_timeout: float,
) -> tuple[Head, bool]:
    parser = h11.Connection(h11.CLIENT)
    sending = asyncio.ensure_future(_send(connection.writer, _head(parser, method, url, headers, body), body))
    reading = asyncio.ensure_future(_read(parser, connection.source, method))
    try:
        await asyncio.wait((sending, reading), return_when=asyncio.FIRST_COMPLETED)
        # An OSError comes from writing to the registry, which may still have answered. Other errors are the body's.
        broken = sending.exception() if sending.done() else None
        if broken is not None and not isinstance(broken, OSError):
            raise broken
        async with asyncio.timeout(idle_timeout):
            answer = await reading
        # Pass an early answer on at once: the registry reads no more of the body.
        return answer, sending.done() and sending.exception() is None
    finally:
        for task in (sending, reading):
            task.cancel()
        await asyncio.gather(sending, reading, return_exceptions=True)


def _head(parser: h11.Connection, method: str, url: str, headers: Mapping[str, str], body: Body | None) -> bytes:
    all_headers = [*headers.items(), *_framing_headers(method, body)]
    try:
        return parser.send(h11.Request(method=method, target=_target(url), headers=all_headers)) or b""
    except (h11.LocalProtocolError, UnicodeError) as error:
        # The URL may come from a Location header of the registry.
        shown = url.partition("?")[0]
        raise RegistryError(f"'{shown}' is not a valid request URL: {error}", code="malformed") from error


async def _send(writer: asyncio.StreamWriter, head: bytes, body: Body | None) -> None:
    await _write(writer, head)
    if body is not None:
        async with contextlib.aclosing(body.pieces()) as pieces:
            async for piece in pieces:
                await _write(writer, piece)


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    async with asyncio.timeout(IDLE_TIMEOUT_S):
        await writer.drain()


async def _read(parser: h11.Connection, source: Source, method: str) -> Head:
    try:
        return await read_response(parser, source, method)
    except (WireError, OSError) as error:
        raise _NoAnswerError(str(error) or type(error).__name__) from error


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
