"""The coordinator's end of the wire, held against the frames that both ends must read."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.image.platforms import parse
from coordinator.errors import ArchloomError, LostError, RegistryError
from coordinator.hosts.agent import replies
from coordinator.hosts.agent.frames import LARGEST, Incoming
from coordinator.hosts.agent.replies import Ended, EndState, HostBusyError
from tests.services.paths import CASES

WIRE = CASES / "wire"
NOISE, HELLO, REPLIES = (WIRE.joinpath(name).read_bytes() for name in ("noise.txt", "hello.txt", "replies.jsonl"))


def reading(*pieces: bytes) -> Incoming:
    reader = asyncio.StreamReader()
    for piece in pieces:
        reader.feed_data(piece)
    reader.feed_eof()
    return Incoming(reader, "pi5")


@given(st.lists(st.integers(0, len(NOISE + HELLO + REPLIES)), max_size=20))
def test_frames_may_come_in_any_pieces(cuts: list[int]):
    """Noise is skipped and every frame is read whole, however the bytes are cut."""
    sent, edges = NOISE + HELLO + REPLIES, sorted({0, *cuts})

    class Pieces:
        def __init__(self) -> None:
            ends = [*edges[1:], len(sent)]
            self.pieces = iter([sent[a:b] for a, b in zip(edges, ends, strict=True) if a < b])

        async def read(self, _: int) -> bytes:
            return next(self.pieces, b"")

    async def read_all() -> list[object]:
        incoming = Incoming(Pieces(), "pi5")
        found: list[object] = [await incoming.greeting()]
        while (frame := await incoming.frame()) is not None:
            found.append(frame)
        return found

    hello = json.loads(HELLO.partition(b" ")[2])
    assert asyncio.run(read_all()) == [hello, *(json.loads(line) for line in REPLIES.splitlines())]


async def test_noise_has_a_bound():
    """Something that talks for ever without being an agent is not listened to for ever."""
    with pytest.raises(LostError) as refused:
        await reading(*(b"y\n" * 4096 for _ in range(10)), HELLO).greeting()
    assert refused.value.code == "protocol"

    with pytest.raises(LostError):
        await reading(b"y" * 70000).greeting()


async def test_an_end_inside_a_line_is_an_end():
    """A cut frame is no frame."""
    incoming = reading(HELLO, b'{"id": 1, "ok"')
    await incoming.greeting()

    assert await incoming.frame() is None
    assert await reading(NOISE).greeting() is None


@pytest.mark.parametrize("line", [b"nonsense\n", b"[]\n", b"\xff\n", b'{"a": "' + b"x" * LARGEST + b'"}\n'])
async def test_what_is_no_frame_is_refused(line: bytes):
    """After the greeting nothing but frames is accepted."""
    with pytest.raises(LostError) as refused:
        await reading(line).frame()
    assert refused.value.code == "protocol"


def test_the_golden_hello_is_read():
    """The greeting tells what ends the host's side of the connection, and which machine and boot it is."""
    hello = replies.hello("pi5", json.loads(HELLO.partition(b" ")[2]))

    assert (hello.agent, hello.python, hello.pid, hello.parent) == ("3f2c0a91d4b7e856", "3.11.2", 4711, 4709)
    assert hello.state.endswith(hello.machine_id)


def test_a_built_result_names_its_platform():
    """The engine's words are normalised like everybody else's."""
    built = json.loads(REPLIES.splitlines()[7])["ok"]

    ended = replies.ended("pi5", built)

    assert ended == Ended(
        state=EndState.BUILT, seconds=12.5, log_size=48, image_id="sha256:feed",
        platform=parse("linux/arm/v7"), size=1234567,
    )  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"state": "DONE", "seconds": 1, "log_size": 0},
        {"state": "CANCELLED", "seconds": "1", "log_size": 0},
        {"state": "CANCELLED", "seconds": True, "log_size": 0},
        {"state": "BUILT", "seconds": 1, "log_size": 0},
        {"state": "LOST", "seconds": 1, "log_size": 0, "code": None, "message": ""},
    ],
)
def test_a_result_that_is_none_is_refused(fields: dict[str, object]):
    """A host whose answers are not as agreed is lost, not a defect of the coordinator."""
    with pytest.raises(LostError) as refused:
        replies.ended("pi5", fields)
    assert refused.value.code == "protocol"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("refused", RegistryError), ("disk", LostError), ("engine", LostError), ("tunnel", LostError),
        ("no_context", LostError), ("unknown_job", LostError), ("news", LostError), ("internal", LostError),
        ("bad_request", ArchloomError), ("spec_differs", ArchloomError), ("not_built", LostError),
    ],
)  # fmt: skip
def test_a_code_decides_which_error_it_is(code: str, kind: type[ArchloomError]):
    """What the host could not do is lost; what the registry refused is the registry's; the rest is our own fault."""
    error = replies.failure("pi5", {"code": code, "message": "what happened"})

    assert type(error) is kind
    assert (error.code, error.message) == (code, "host 'pi5': what happened")


def test_a_busy_host_says_who_holds_it():
    """`busy` is an error of its own, because the job only has to wait."""
    error = replies.failure("pi5", json.loads(REPLIES.splitlines()[4])["error"])

    assert isinstance(error, HostBusyError)
    assert (error.holder, error.since) == ("bob@nas 91c2-amd64-1", 1763930000.0)
