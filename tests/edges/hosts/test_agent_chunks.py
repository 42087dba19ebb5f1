"""The framing of bulk channels: what either side writes the other reads, and an end that is missing is never an end."""

from __future__ import annotations

import asyncio
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.base.errors import AgentError
from agents.wire import chunks as agent
from coordinator.errors import LostError
from coordinator.hosts.agent import chunks as coordinator
from coordinator.hosts.agent.frames import Incoming
from tests.services.paths import CASES

GOLDEN = (CASES / "wire" / "pieces.bin").read_bytes()
EXAMPLE = [b"ustar", b"\n0\n" * 9]
PIECES = st.lists(
    st.binary(max_size=40) | st.sampled_from([b"0\n", b"\n", b"5\nabc", b"\narchloom-agent {}\n"]), max_size=5
)
# A byte short of the largest chunk, the largest, and what takes two and three.
EDGES = [coordinator.LARGEST - 1, coordinator.LARGEST, coordinator.LARGEST + 1, 2 * coordinator.LARGEST + 1]


def sent_by_agent(pieces: list[bytes]) -> bytes:
    stream = io.BytesIO()
    for piece in pieces:
        agent.send(stream, piece)
    agent.end(stream)
    return stream.getvalue()


def sent_by_coordinator(pieces: list[bytes]) -> bytes:
    return b"".join(part for piece in pieces for part in coordinator.encode(piece)) + coordinator.END


def read_by_agent(sent: bytes) -> bytes:
    return b"".join(agent.receive(io.BytesIO(sent)))


def read_by_coordinator(sent: bytes, *cuts: int) -> bytes:
    async def read() -> bytes:
        reader = asyncio.StreamReader()
        for start, stop in zip((0, *cuts), (*cuts, len(sent)), strict=True):
            reader.feed_data(sent[start:stop])
        reader.feed_eof()
        return b"".join([data async for data in coordinator.receive(Incoming(reader, "pi5"), "pi5", "image")])

    return asyncio.run(read())


def test_the_golden_chunks_are_written_and_read():
    """The example of `agents/README.md`, byte for byte, on both sides."""
    assert sent_by_agent(EXAMPLE) == sent_by_coordinator(EXAMPLE) == GOLDEN
    assert read_by_agent(GOLDEN) == read_by_coordinator(GOLDEN) == b"".join(EXAMPLE)


@given(PIECES, st.integers(0, 300))
def test_either_side_reads_what_the_other_writes(pieces: list[bytes], cut: int):
    """Whatever the bytes look like and wherever they are cut on the way; empty pieces are no end."""
    sent = sent_by_coordinator(pieces)

    assert sent == sent_by_agent([piece for piece in pieces if piece])
    assert read_by_agent(sent) == read_by_coordinator(sent, min(cut, len(sent))) == b"".join(pieces)


@pytest.mark.parametrize("size", EDGES)
def test_a_large_piece_takes_several_chunks(size: int):
    """The coordinator writes no chunk that the agent refuses."""
    sent = sent_by_coordinator([bytes(size)])

    assert read_by_agent(sent) == read_by_coordinator(sent) == bytes(size)


@given(st.binary(min_size=1, max_size=40), st.data())
def test_a_stream_that_is_cut_has_no_end(piece: bytes, data: st.DataObject):
    """At every byte but the last: the agent's `cut`, the coordinator's EOFError."""
    sent = sent_by_agent([piece, piece])
    cut = sent[: data.draw(st.integers(0, len(sent) - 1))]

    with pytest.raises(AgentError) as refused:
        read_by_agent(cut)
    assert refused.value.code == "cut"
    with pytest.raises(EOFError):
        read_by_coordinator(cut)


@pytest.mark.parametrize("line", [b"100001", b"-1", b"+1", b"0x1", b"1_0", b" 5", b"5 ", b"FF", b"zz", b"\xff"])
def test_a_length_is_a_few_hex_digits(line: bytes):
    """Nothing else that Python would take for a number, and no chunk above 1 MiB."""
    with pytest.raises(AgentError) as refused:
        read_by_agent(line + b"\nx")
    assert refused.value.code == "bad_request"
    with pytest.raises(LostError) as lost:
        read_by_coordinator(line + b"\nx")
    assert lost.value.code == "protocol"


@pytest.mark.parametrize(
    ("rest", "code", "words"),
    [
        (b'{"error": {"code": "engine", "message": "it died"}}\n', "engine", "it died"),
        (b'{"ok": {}}\n', "protocol", "without their end"),
    ],
)
def test_an_error_may_take_the_place_of_a_chunk(rest: bytes, code: str, words: str):
    """An empty line, then the line of an error: the agent's own error, whatever came before."""
    with pytest.raises(LostError, match=words) as lost:
        read_by_coordinator(sent_by_agent([b"some"])[:-2] + b"\narchloom-agent " + rest)
    assert lost.value.code == code
