"""Requests to registries whose bodies are relayed: a connection, a head out, a head back, raw bodies both ways."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11

from coordinator.broker.http1 import PIECE, SILENCE_S, Body, Ends, Framing, Head, Source, WireError, read_response
from coordinator.errors import RegistryError
from coordinator.registry.endpoint import Endpoint

_CONNECT_TIMEOUT_S = 10.0
_MOST_IDLE = 8


@dataclass(frozen=True, slots=True)
class _Place:
    host: str
    port: int
    tls: ssl.SSLContext | None


@dataclass(slots=True)
class _Link:
    place: _Place
    source: Source
    writer: asyncio.StreamWriter
    used: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request that was answered; `body` is the answer's, not read yet."""

    answer: Head
    body: Body


class Connections:
    """Connections to registries, kept open between requests: a push asks for dozens of blobs by HEAD.

    A registry that says nothing for `silence` seconds has not answered.
    """

    def __init__(self, silence: float = SILENCE_S) -> None:
        self._silence = silence
        self._idle: dict[_Place, list[_Link]] = {}

    async def close(self) -> None:
        for links in self._idle.values():
            for link in links:
                await _end(link)
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
        """The answer to one request, for as long as the block reads it.

        With a body the connection is new, because a body cannot be sent twice; an answer that comes before the body is
        over ends the sending. Raises RegistryError `unreachable` when there is no answer, WireError when the *body*
        breaks off, which is its sender's affair.
        """
        place = _place(endpoint, url)
        link, answer, whole = await self._exchange(place, method, url, headers, body)
        exchange = Exchange(answer, Body(link.source, answer.framing))
        done = False
        try:
            yield exchange
            done = whole and answer.keep_alive and exchange.body.over and not link.source.ahead
        finally:
            if done and len(self._idle.setdefault(place, [])) < _MOST_IDLE:
                self._idle[place].append(link)
            else:
                await _end(link)

    async def _exchange(
        self,
        place: _Place,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None,
    ) -> tuple[_Link, Head, bool]:
        while True:
            link = await self._take(place, fresh=body is not None)
            try:
                answer, whole = await _converse(link, method, url, headers, body, self._silence)
            except _NoAnswerError as error:
                await _end(link)
                # An idle connection may have been closed at the other end at any time; that is no failure.
                if not link.used:
                    raise _unanswered(place, method, str(error)) from error
            except TimeoutError as error:
                # Silence is no sign of an old connection: the next one would be as silent.
                await _end(link)
                raise _unanswered(place, method, f"nothing for {self._silence:g} s") from error
            except BaseException:
                await _end(link)
                raise
            else:
                link.used = True
                return link, answer, whole

    async def _take(self, place: _Place, *, fresh: bool) -> _Link:
        idle = self._idle.get(place, [])
        if idle and not fresh:
            return idle.pop()
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(place.host, place.port, ssl=place.tls, limit=PIECE)
        except (OSError, TimeoutError) as error:
            raise RegistryError(f"cannot reach {place.host}:{place.port}: {error}", code="unreachable") from error
        return _Link(place, Source(reader), writer)


class _NoAnswerError(Exception):
    """The registry closed the connection without a word."""


def _unanswered(place: _Place, method: str, why: str) -> RegistryError:
    return RegistryError(f"{place.host}:{place.port} gave no answer to {method}: {why}", code="unreachable")


async def _converse(
    link: _Link,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: Body | None,
    silence: float,
) -> tuple[Head, bool]:
    parser = h11.Connection(h11.CLIENT)
    sending = asyncio.ensure_future(_send(link.writer, _head(parser, method, url, headers, body), body))
    reading = asyncio.ensure_future(_read(parser, link.source, method))
    try:
        await asyncio.wait((sending, reading), return_when=asyncio.FIRST_COMPLETED)
        # OSError is our own writing's, and there may be an answer all the same; all else is the body's.
        broken = sending.exception() if sending.done() else None
        if broken is not None and not isinstance(broken, OSError):
            raise broken
        async with asyncio.timeout(silence):
            answer = await reading
        # Early answers are passed on at once; the rest of the body has nowhere to go.
        return answer, sending.done() and sending.exception() is None
    finally:
        for task in (sending, reading):
            task.cancel()
        await asyncio.gather(sending, reading, return_exceptions=True)


def _head(parser: h11.Connection, method: str, url: str, headers: Mapping[str, str], body: Body | None) -> bytes:
    every = [*headers.items(), *_framing_headers(method, body)]
    try:
        return parser.send(h11.Request(method=method, target=_target(url), headers=every)) or b""
    except (h11.LocalProtocolError, UnicodeError) as error:
        # The path may be one that a registry told us in a Location.
        where = url.partition("?")[0]
        raise RegistryError(f"'{where}' is no address to send a request to: {error}", code="malformed") from error


async def _send(writer: asyncio.StreamWriter, head: bytes, body: Body | None) -> None:
    await _write(writer, head)
    if body is not None:
        async with contextlib.aclosing(body.pieces()) as pieces:
            async for piece in pieces:
                await _write(writer, piece)


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    async with asyncio.timeout(SILENCE_S):
        await writer.drain()


async def _read(parser: h11.Connection, source: Source, method: str) -> Head:
    try:
        return await read_response(parser, source, method)
    except (WireError, OSError) as error:
        raise _NoAnswerError(str(error) or type(error).__name__) from error


async def _end(link: _Link) -> None:
    # Aborted: what is not sent by now is the beginning of something that has no end.
    link.writer.transport.abort()
    with contextlib.suppress(OSError, ssl.SSLError):
        await link.writer.wait_closed()


def _framing_headers(method: str, body: Body | None) -> list[tuple[str, str]]:
    framing = body.framing if body is not None else Framing(Ends.EMPTY)
    match framing.ends:
        case Ends.LENGTH:
            return [("Content-Length", str(framing.length))]
        case Ends.CHUNKS:
            return [("Transfer-Encoding", "chunked")]
        case Ends.EMPTY | Ends.CLOSE:
            return [("Content-Length", "0")] if method in ("POST", "PUT", "PATCH") else []


def _place(endpoint: Endpoint, url: str) -> _Place:
    parts = urlsplit(url)
    host = parts.hostname or endpoint.host
    if endpoint.owns(url):
        return _Place(host, endpoint.port, endpoint.tls)
    secure = parts.scheme == "https"
    tls = (endpoint.tls or ssl.create_default_context()) if secure else None
    return _Place(host, parts.port or (443 if secure else 80), tls)


def _target(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
