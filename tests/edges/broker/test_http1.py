"""HTTP/1.1 between strangers: where messages begin and end, however the bytes arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.broker.http1 import (
    Body,
    BodyEnd,
    Framing,
    Head,
    Source,
    TooLargeError,
    WireError,
    read_request,
    read_response,
)

CHUNKED = Framing(BodyEnd.CHUNKS)


class Pieces:
    """A reader that gives these pieces and then the end."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter([piece for piece in pieces if piece])

    async def read(self, n: int, /) -> bytes:  # noqa: ARG002
        return next(self._pieces, b"")


class Silent:
    """A reader to whom nobody says anything."""

    async def read(self, n: int, /) -> bytes:  # noqa: ARG002
        await asyncio.Event().wait()
        raise AssertionError


def source(*pieces: bytes) -> Source:
    return Source(Pieces(pieces))


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(at), len(data)]
    return [data[start:stop] for start, stop in pairwise(places)]


async def travelled(body: Body) -> bytes:
    return b"".join([piece async for piece in body.pieces()])


async def response(raw: bytes, method: str = "GET") -> tuple[Head, Source]:
    parser, answers = h11.Connection(h11.CLIENT), source(raw)
    parser.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    return await read_response(parser, answers, method), answers


def framed(content: list[bytes]) -> bytes:
    return b"".join(b"%x;a=b\r\n%b\r\n" % (len(chunk), chunk) for chunk in content) + b"0\r\nTrailer: t\r\n\r\n"


@given(
    st.lists(st.binary(min_size=1, max_size=30), max_size=5),
    st.booleans(),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_two_requests_in_a_row_are_two_however_they_arrive(content, chunked, places) -> None:
    """A body ends where its framing says, travels unchanged, and the next request begins right behind it."""
    data = b"".join(content)
    body = framed(content) if chunked else data
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(data)
    raw = b"PATCH /one HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n%bGET /two HTTP/1.1\r\nHost: h\r\n\r\n" % (framing, body)

    async def both(read: Callable[[Body], Awaitable[bytes]]) -> tuple[bytes, bool, str]:
        arriving = source(*cut(raw, (place for place in places if place <= len(raw))))
        first = await read_request(arriving)
        assert first is not None
        one = Body(arriving, first.framing)
        found = await read(one)
        second = await read_request(arriving)
        assert second is not None
        assert await read_request(arriving) is None
        return found, one.over, second.target

    assert asyncio.run(both(travelled)) == (body, True, "/two")
    assert asyncio.run(both(lambda body: body.whole(1000))) == (data, True, "/two")


@pytest.mark.parametrize("framing", [Framing(BodyEnd.LENGTH, 10), CHUNKED])
async def test_a_body_that_ends_early_is_no_body(framing) -> None:
    """What is cut is never taken for whole."""
    body = Body(source(b"3\r\nabc"), framing)

    with pytest.raises(WireError, match="ended early"):
        await travelled(body)
    assert not body.over


@pytest.mark.parametrize(
    "broken",
    [b"zz\r\n", b"-1\r\n", b"3\r\nabcd\r\n", b"\r\n", b"1" * 5000, b"3\nabc\r\n", b"0\r\n\n", b"0x3\r\nabc\r\n"],
)
async def test_chunks_that_two_readers_could_read_differently_are_refused(broken) -> None:
    """Broken framing, a bare LF among it, is not guessed at."""
    with pytest.raises(WireError):
        await travelled(Body(source(broken), CHUNKED))


async def test_silence_is_an_end() -> None:
    """A sender that is neither gone nor sending does not hold a connection for ever."""
    with pytest.raises(WireError, match="no data for"):
        await travelled(Body(Source(Silent()), CHUNKED, idle_timeout=0.01))


@pytest.mark.parametrize("framing", [Framing(BodyEnd.LENGTH, 5), CHUNKED, Framing(BodyEnd.CLOSE)])
async def test_a_body_is_read_whole_up_to_its_limit(framing) -> None:
    """One byte more than may be is refused, and the beginning can be read of anything."""
    raw = b"5\r\nhello\r\n0\r\n\r\n" if framing == CHUNKED else b"hello"

    assert await Body(source(raw), framing).whole(5) == b"hello"
    assert await Body(source(raw), framing).start(2) == b"he"
    with pytest.raises(TooLargeError):
        await Body(source(raw), framing).whole(4)


async def test_a_length_that_is_too_large_is_refused_unread() -> None:
    """Nothing of an oversized body is waited for."""
    with pytest.raises(TooLargeError):
        await Body(Source(Silent()), Framing(BodyEnd.LENGTH, 5)).whole(4)


@pytest.mark.parametrize(
    "lines",
    [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: +3",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding : chunked",
        "X: a\x00b",
        "X: " + "a" * 100_000,
    ],
)
async def test_requests_that_could_be_read_in_two_ways_are_refused(lines) -> None:
    """One framing, one length, within the size of a head."""
    with pytest.raises(WireError):
        await read_request(source(f"PATCH / HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n".encode()))


@pytest.mark.parametrize("raw", [b"NONSENSE\r\n\r\n", b"GET / HTTP/1.1\r\nHost: h\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_what_is_no_whole_request_is_refused(raw) -> None:
    """Nonsense, a head that is cut and a response are errors; nothing at all is an end."""
    with pytest.raises(WireError):
        await read_request(source(raw))
    assert await read_request(source()) is None


@pytest.mark.parametrize(
    ("head", "method", "framing", "keeps"),
    [
        ("200 OK\r\nContent-Length: 4", "GET", Framing(BodyEnd.LENGTH, 4), True),
        ("200 OK\r\nContent-Length: 4", "HEAD", Framing(BodyEnd.EMPTY), True),
        ("202 Accepted\r\nContent-Length: 0", "POST", Framing(BodyEnd.EMPTY), True),
        ("204 No Content", "PATCH", Framing(BodyEnd.EMPTY), True),
        ("304 Not Modified\r\nContent-Length: 4", "GET", Framing(BodyEnd.EMPTY), True),
        ("200 OK\r\nTransfer-Encoding: chunked", "GET", CHUNKED, True),
        ("200 OK", "GET", Framing(BodyEnd.CLOSE), False),
        ("200 OK\r\nContent-Length: 4\r\nConnection: close", "GET", Framing(BodyEnd.LENGTH, 4), False),
    ],
)
async def test_a_response_s_body_ends_as_its_head_says(head, method, framing, keeps) -> None:
    """Length, chunks, nothing, or the end of the connection, which then cannot be used again."""
    found, rest = await response(f"HTTP/1.1 {head}\r\n\r\nrest".encode(), method)

    assert (found.framing, found.keep_alive) == (framing, keeps)
    assert await rest.read_some() == b"rest"


async def test_informational_responses_are_passed_over() -> None:
    """100 and 103 are not the answer."""
    found, _ = await response(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\n\r\nHTTP/1.1 201 Made\r\n\r\n")

    assert found.status == 201


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 OK\r\n", b"SSH-2.0-OpenSSH\r\n\r\n"])
async def test_no_response_is_an_error(raw) -> None:
    """An end, half a head and another protocol are no answer."""
    with pytest.raises(WireError):
        await response(raw)
