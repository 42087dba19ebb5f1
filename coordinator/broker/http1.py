"""HTTP/1.1 for both sides of the broker: heads are parsed by h11, bodies are relayed as raw bytes.

A layer is relayed unchanged, chunk framing included, in pieces of at most 256 KiB: parsing every chunk in Python would
cost half the throughput. Only the end of a body is detected.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import h11

from coordinator import deadlines

PIECE = 256 * 1024
_MAX_REQUEST_HEAD_BYTES = 32 * 1024
_HEAD_PIECE_BYTES = 16 * 1024
_MAX_CHUNK_LINE_BYTES = 4096
_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,15})(?:[ \t]*;[^\r\n]*)?\Z")

Headers = list[tuple[str, str]]


class Reader(Protocol):
    """The stream reader of asyncio or of an SSH channel."""

    async def read(self, n: int, /) -> bytes:
        """Return at most `n` bytes as soon as any arrive, none at the end. Raises OSError where the transport fails."""
        ...


class Watch(Protocol):
    """Tells the user while the block waits for a registry. `moves`: it is in the middle of a body."""

    def __call__(self, *, moves: bool = False) -> AbstractContextManager[object]: ...


class WireError(Exception):
    """The peer broke the protocol or disconnected in the middle of a message."""


class TooLargeError(Exception):
    """A body that must be read whole is larger than its limit."""


class BodyEnd(StrEnum):
    """How the end of a body is recognised (RFC 9112, section 6.3)."""

    EMPTY = "empty"
    LENGTH = "length"
    CHUNKS = "chunks"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Framing:
    end: BodyEnd
    length: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head of a request or response. Header names are in lower case; `status` is 0 for a request."""

    method: str = ""
    target: str = ""
    status: int = 0
    headers: Headers
    framing: Framing
    keep_alive: bool

    def header(self, name: str) -> str:
        """Return the first value of the header, `""` where there is none."""
        return next((value for key, value in self.headers if key == name), "")

    def all_values(self, name: str) -> str:
        """Return all values of a list header, joined by commas (RFC 9110, section 5.3), `""` where there is none."""
        return ", ".join(value for key, value in self.headers if key == name)


class Source:
    """A reader with pushback for bytes that were read beyond the end of a message."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._unread = b""

    @property
    def has_unread(self) -> bool:
        """Whether there are bytes beyond the end of the last message."""
        return bool(self._unread)

    async def read_some(self) -> bytes:
        """Return some bytes, none only at the end."""
        if self._unread:
            data, self._unread = self._unread, b""
            return data
        return await self._reader.read(PIECE)

    def unread(self, data: bytes) -> None:
        self._unread = data + self._unread


async def read_request(source: Source) -> Head | None:
    """Return the next request's head, `None` where the client has closed the connection. Raises WireError."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_REQUEST_HEAD_BYTES)
    event = await _head(parser, source)
    if event is None:
        return None
    if not isinstance(event, h11.Request):
        raise WireError("expected a request")
    headers = _texts(event.headers)
    lengths = [value for name, value in headers if name == "content-length"]
    encodings = [value.lower() for name, value in headers if name == "transfer-encoding"]
    if encodings and (lengths or encodings != ["chunked"]):
        # Two parsers could disagree on where this request ends: request smuggling (RFC 9112, section 6.1).
        raise WireError("Transfer-Encoding together with Content-Length, or other than chunked")
    framing = Framing(BodyEnd.CHUNKS) if encodings else _by_length(lengths)
    return Head(
        method=event.method.decode(),
        target=event.target.decode(),
        headers=headers,
        framing=framing,
        keep_alive=event.http_version == b"1.1" and not _has(headers, "connection", "close"),
    )


async def read_response(parser: h11.Connection, source: Source, method: str) -> Head:
    """Return the head of the response to the request that `parser` has sent. Raises WireError, also without one."""
    event: object = await _head(parser, source)
    while isinstance(event, h11.InformationalResponse):
        event = await _head(parser, source)
    if not isinstance(event, h11.Response):
        raise WireError("the connection was closed before the response")
    headers = _texts(event.headers)
    if method == "HEAD" or event.status_code in (204, 304):
        framing = Framing(BodyEnd.EMPTY)
    elif _has(headers, "transfer-encoding", "chunked"):
        # It overrides Content-Length. h11 has refused every other transfer coding.
        framing = Framing(BodyEnd.CHUNKS)
    else:
        lengths = [value for name, value in headers if name == "content-length"]
        framing = _by_length(lengths) if lengths else Framing(BodyEnd.CLOSE)
    return Head(
        status=event.status_code,
        headers=headers,
        framing=framing,
        keep_alive=event.http_version == b"1.1"
        and framing.end is not BodyEnd.CLOSE
        and not _has(headers, "connection", "close"),
    )


class Body:
    """The body of one message, read once. `over`: its end has been read, so another message may follow.

    Reading fails where no byte arrives for `idle_timeout` seconds; `watch` tells the user of such a silence before.
    `waits_since`: when a read began that is under way, by `time.monotonic()`.
    """

    def __init__(
        self,
        source: Source,
        framing: Framing,
        idle_timeout: float = deadlines.BODY_IDLE,
        watch: Watch = lambda **_: nullcontext(),
    ) -> None:
        self.framing = framing
        self.over = framing.end is BodyEnd.EMPTY
        self.waits_since: float | None = None
        self._source = source
        self._idle_timeout = idle_timeout
        self._watch = watch
        self._left = framing.length
        self._chunks = ChunkedEnd()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the raw bytes, chunk framing included. Raises WireError where they end early or stop arriving."""
        while not self.over:
            piece = await self._some()
            if not piece and self.framing.end is not BodyEnd.CLOSE:
                raise WireError("the body ended early")
            used = self._take(piece)
            if used < len(piece):
                self._source.unread(piece[used:])
                piece = piece[:used]
            if piece:
                yield piece

    async def start(self, limit: int) -> bytes:
        """Return at most the first `limit` bytes of the content, without chunk framing. Raises WireError."""
        content = bytearray()
        decoder = ChunkedEnd()
        async with aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                content += decoder.decode(piece) if self.framing.end is BodyEnd.CHUNKS else piece
                if len(content) > limit:
                    break
        return bytes(content[:limit])

    async def whole(self, limit: int) -> bytes:
        """Return the whole content of a small body. Raises TooLargeError beyond `limit` bytes, and WireError."""
        if self.framing.length <= limit:
            content = await self.start(limit + 1)
            if len(content) <= limit:
                return content
        raise TooLargeError(f"a body of more than {limit} bytes")

    async def _some(self) -> bytes:
        self.waits_since = time.monotonic()
        try:
            with self._watch(moves=True):
                async with asyncio.timeout(self._idle_timeout):
                    return await self._source.read_some()
        except TimeoutError as error:
            raise WireError(f"no data for {self._idle_timeout:.0f} s") from error
        except OSError as error:
            # Not left as OSError, which stands for a failure of the connection that the body is relayed to.
            raise WireError(f"the connection broke: {error.strerror or error}") from error
        finally:
            self.waits_since = None

    def _take(self, piece: bytes) -> int:
        """Consume the body's part of these bytes, and return its length."""
        match self.framing.end:
            case BodyEnd.EMPTY:
                used = 0
            case BodyEnd.LENGTH:
                used = min(len(piece), self._left)
                self._left -= used
                self.over = not self._left
            case BodyEnd.CHUNKS:
                used = self._chunks.feed(piece)
                self.over = self._chunks.over
            case BodyEnd.CLOSE:
                used = len(piece)
                self.over = not piece
        return used


class ChunkedEnd:
    """Finds the end of a chunked body without copying its data. Raises WireError for broken framing."""

    def __init__(self) -> None:
        self.over = False
        self._line = b""
        self._data = 0
        self._after_data = False
        self._trailers = False

    def feed(self, piece: bytes) -> int:
        """Consume the body's part of these bytes, framing included, and return its length."""
        return sum(stop - start for start, stop, _ in self._spans(piece))

    def decode(self, piece: bytes) -> bytes:
        """Return the data in these bytes, without chunk framing."""
        return b"".join(piece[start:stop] for start, stop, is_data in self._spans(piece) if is_data)

    def _spans(self, piece: bytes) -> Iterable[tuple[int, int, bool]]:
        at = 0
        while at < len(piece) and not self.over:
            if self._data:
                stop = min(len(piece), at + self._data)
                self._data -= stop - at
                self._after_data = not self._data
                yield at, stop, True
            else:
                stop = piece.find(b"\n", at) + 1 or len(piece)
                self._line += piece[at:stop]
                if len(self._line) > _MAX_CHUNK_LINE_BYTES:
                    raise WireError("a chunk's first line is too long")
                if self._line.endswith(b"\n"):
                    self._end_of_line()
                yield at, stop, False
            at = stop

    def _end_of_line(self) -> None:
        line, self._line = self._line, b""
        if not line.endswith(b"\r\n"):
            # Some parsers accept a bare LF as a line end and some do not: see RFC 9112, sections 7.1 and 11.2.
            raise WireError("a line of a chunked body ends without CRLF")
        line = line[:-2]
        if self._trailers:
            self.over = not line
        elif self._after_data:
            if line:
                raise WireError("a chunk is longer than its size")
            self._after_data = False
        else:
            size = _CHUNK_LINE.match(line)
            if size is None:
                raise WireError("a chunk has no valid size")
            self._data = int(size[1], 16)
            self._trailers = not self._data


async def _head(parser: h11.Connection, source: Source) -> h11.Event | None:
    began = False
    try:
        while (event := parser.next_event()) is h11.NEED_DATA:
            data = await source.read_some()
            if not data and not began:
                return None
            began = True
            # h11 checks the size of a head only while the head is incomplete, so feed it small pieces.
            source.unread(data[_HEAD_PIECE_BYTES:])
            parser.receive_data(data[:_HEAD_PIECE_BYTES])
    except h11.RemoteProtocolError as error:
        raise WireError(str(error)) from error
    source.unread(parser.trailing_data[0])
    return event if isinstance(event, h11.Request | h11.Response | h11.InformationalResponse) else None


def _by_length(lengths: list[str]) -> Framing:
    # h11 has already refused lengths that differ or are not numbers.
    length = int(lengths[0]) if lengths else 0
    return Framing(BodyEnd.LENGTH, length) if length else Framing(BodyEnd.EMPTY)


def _texts(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]


def _has(headers: Headers, name: str, word: str) -> bool:
    return any(key == name and word in value.lower() for key, value in headers)
