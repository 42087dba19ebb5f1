"""The broker's response to a board."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing
from http import HTTPStatus

from coordinator.broker.http1 import Body, BodyEnd, Head
from coordinator.broker.upstream_connections import Exchange


class Reply:
    """The response to one request. It may be sent before the request's `body` has been read.

    `last` is true where the connection must be closed after it. `waits_since`: when a write began
    that the board has not taken yet, by `time.monotonic()`.
    """

    def __init__(self, writer: asyncio.StreamWriter, request: Head, body: Body) -> None:
        self._writer = writer
        self._method = request.method
        self._body = body
        self.last = not request.keep_alive
        self.begun = False
        self.waits_since: float | None = None
        self.status = 0

    async def small(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Send a complete response; a HEAD request gets only its head."""
        self._head(status, {**headers, "Content-Length": str(len(body))})
        if self._method != "HEAD":
            self._writer.write(body)
        await self._drain()

    async def relay(self, exchange: Exchange, headers: Mapping[str, str]) -> None:
        """Send the registry's status and body with these headers, piece by piece."""
        framing = exchange.answer.framing
        sized: dict[str, str] = {}
        match framing.end:
            case BodyEnd.LENGTH:
                sized = {"Content-Length": str(framing.length)}
            case BodyEnd.CHUNKS:
                sized = {"Transfer-Encoding": "chunked"}
            case BodyEnd.CLOSE:
                self.last = True
            case BodyEnd.EMPTY:
                # Content-Length of a HEAD response is the size of the blob, not of the response's own body.
                sized = {"Content-Length": exchange.answer.header("content-length") or "0"}
        self._head(exchange.answer.status, {**headers, **sized})
        async with aclosing(exchange.body.pieces()) as pieces:
            async for piece in pieces:
                self._writer.write(piece)
                await self._drain()
        await self._drain()

    async def _drain(self) -> None:
        self.waits_since = time.monotonic()
        try:
            await self._writer.drain()
        finally:
            self.waits_since = None

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.begun = True
        self.status = status
        # Unread bytes of the request's body would be parsed as the next request.
        self.last = self.last or not self._body.over
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "Docker-Distribution-Api-Version: registry/2.0"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if self.last:
            lines.append("Connection: close")
        self._writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
