"""The coordinator's end of the wire, held against the frames that both ends must read."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.image.platforms import parse
from coordinator.errors import ArchloomError, LostError, RegistryError
from coordinator.hosts.agent import replies
from coordinator.hosts.agent.frames import LARGEST, Incoming
from coordinator.hosts.agent.purge import Purged
from coordinator.hosts.agent.replies import (
    BasesHeld,
    BasesLoaded,
    ContextReceived,
    Ended,
    EndState,
    HeldImage,
    Hello,
    HostBusyError,
    JobEntry,
    LogText,
    Pushed,
    Started,
)
from tests.services.paths import CASES

if TYPE_CHECKING:
    from pydantic import BaseModel

WIRE = CASES / "wire"
# Each class of answers, and its members on the wire with their JSON types.
MEMBERS: dict[type[BaseModel], dict[str, type]] = {
    Hello: dict.fromkeys(("agent", "python", "machine_id", "boot_id", "state"), str)
    | dict.fromkeys(("pid", "parent", "parent_start"), int),
    LogText: {"log": str, "offset": int},
    ContextReceived: {"entries": int, "bytes": int, "files": int, "received": int},
    BasesHeld: {"pulled": int, "kept": int},
    BasesLoaded: {"loaded": int, "kept": int},
    HeldImage: {"image_id": str, "size": int},
    Started: {"pid": int, "slot": int},
    Pushed: {"digest": str, "size": int},
    JobEntry: {"job": str, "state": str, "since": float},
}
# JSON as Python reads it: also halves of surrogate pairs, integers of any size, NaN, and true, which is an int.
TEXTS = st.text(st.characters(), max_size=5) | st.just("\udcff")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.sampled_from(["5", "1.5", 1.0, 1 << 64]),
    lambda values: st.lists(values, max_size=2) | st.dictionaries(TEXTS, values, max_size=2),
    max_leaves=3,
)
OF_TYPE = {str: TEXTS, int: st.integers() | st.just(1 << 64), float: st.integers(-(1 << 64), 1 << 64) | st.floats()}
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
    hello = replies.read("pi5", json.loads(HELLO.partition(b" ")[2]), Hello)

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


@given(st.data())
@pytest.mark.parametrize("kind", MEMBERS)
def test_an_answer_has_exactly_its_types(kind: type[BaseModel], data: st.DataObject):
    """Accepted where each member has its JSON type, unchanged, whatever else is there; else LostError `protocol`."""
    types = MEMBERS[kind]
    members = {name: data.draw(OF_TYPE[of] | VALUES, label=name) for name, of in types.items()}
    for name in data.draw(st.sets(st.sampled_from([*types]), max_size=1), label="absent"):
        del members[name]
    fits = {
        name: name in members
        and type(members[name]) in ((int, float) if of is float else (of,))
        and (of is not int or 0 <= members[name] < 2**63)
        for name, of in types.items()
    }
    fields = data.draw(st.dictionaries(TEXTS, VALUES, max_size=2)) | members

    if all(fits.values()):
        answer = replies.read("pi5", fields, kind).model_dump(by_alias=True)
        # By their texts: a NaN equals nothing, and 1 equals 1.0.
        assert {name: repr(value) for name, value in answer.items()} == {
            name: repr(of(members[name])) for name, of in types.items()
        }
    else:
        with pytest.raises(LostError, match="host 'pi5': the agent's reply cannot be read: ") as refused:
            replies.read("pi5", fields, kind)
        assert refused.value.code == "protocol"
        assert any(f"'{name}' is " in refused.value.message for name, fit in fits.items() if not fit)
        assert len(refused.value.message.splitlines()) == 1


HUGE = 10**400
FIRST_JOB = {"job": "a-1", "state": "BUILDING", "since": 1.5}


@pytest.mark.parametrize(
    ("kind", "value", "path", "words"),
    [
        (Started, {"pid": 1}, (), "'slot' is missing"),
        (Started, {"pid": "1", "slot": 0}, (), "'pid' is '1', expected a valid integer"),
        (Started, {"pid": 1, "slot": True}, (), "'slot' is True, expected a valid integer"),
        (Pushed, {"digest": None, "size": 0}, (), "'digest' is None, expected a valid string"),
        (JobEntry, FIRST_JOB | {"since": HUGE}, (), f"'since' is {str(HUGE)[:80]}, expected a valid number"),
        (LogText, {"log": "x"}, (), "'offset' is missing"),
        (LogText, {"event": []}, ("event",), "'event' is [], expected an object"),
        (int, {"id": 1.0}, ("id",), "'id' is 1.0, expected a valid integer"),
        (int, {"freed": HUGE}, ("freed",), f"'freed' is {str(HUGE)[:80]}, expected less than {2**63}"),
        (int, {"freed": -1}, ("freed",), "'freed' is -1, expected greater than or equal to 0"),
        (Pushed, {"digest": "x", "size": HUGE}, (), f"'size' is {str(HUGE)[:80]}, expected less than {2**63}"),
        (bool, {"more": 1}, ("more",), "'more' is 1, expected a valid boolean"),
        (int, {"progress": {"done": "1"}}, ("progress", "done"), "'progress.done' is '1', expected a valid integer"),
        (int, {"progress": 5}, ("progress", "done"), "'progress.done' is None, expected a valid integer"),
        (dict[str, object], {"ok": 5}, ("ok",), "'ok' is 5, expected an object"),
        (list[str], {"bases": ["a", 5]}, ("bases",), "'bases.1' is 5, expected a valid string"),
        (list[str], {"bases": "ab"}, ("bases",), "'bases' is 'ab', expected a list"),
        (list[JobEntry], {"jobs": [FIRST_JOB, {"job": "a-2"}]}, ("jobs",), "'jobs.1.state' is missing"),
        (list[JobEntry], {"jobs": [FIRST_JOB, "a-2"]}, ("jobs",), "'jobs.1' is 'a-2', expected an object"),
        (Purged, {"jobs": 1, "images": [], "files": "/", "keys": 0, "kept": []}, (), "'files' is '/', expected a list"),
    ],
)
def test_what_is_wrong_is_one_sentence(kind: type[object], value: object, path: tuple[str, ...], words: str):
    """The first member that does not fit, what is there, and what JSON type was expected."""
    with pytest.raises(LostError) as refused:
        replies.read("pi5", value, kind, *path)
    assert refused.value.message == f"host 'pi5': the agent's reply cannot be read: {words}"


def test_a_state_that_is_none_is_named():
    """A result's state is one of four words."""
    with pytest.raises(LostError) as refused:
        replies.ended("pi5", {"state": "DONE", "seconds": 1, "log_size": 0})
    assert refused.value.message.endswith("'state' is 'DONE', expected 'BUILT', 'FAILED', 'LOST' or 'CANCELLED'")


def test_what_a_purge_left_is_shown_as_it_comes():
    """A name that is no text does not hide what was deleted."""
    sent = {"jobs": 1, "images": ["archloom/a:b"], "files": ["/\udcff", 5], "keys": 0, "kept": [None]}

    purged = replies.read("pi5", sent, Purged)

    assert (purged.images, purged.files, purged.kept) == (("archloom/a:b",), ("/\udcff", "5"), ("None",))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("refused", RegistryError), ("disk", LostError), ("engine", LostError), ("tunnel", LostError),
        ("no_context", LostError), ("unknown_job", LostError), ("news", LostError), ("internal", LostError),
        ("bad_request", ArchloomError), ("spec_differs", LostError), ("not_built", LostError),
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
