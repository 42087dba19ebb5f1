"""The coordinator's end of the wire, held against the frames that both ends must read."""

from __future__ import annotations

import asyncio
import json
import re
from math import isfinite
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.image.platforms import parse
from coordinator.domain.visible import visible_text
from coordinator.errors import LostError
from coordinator.hosts.agent import error_codes, replies
from coordinator.hosts.agent.error_codes import HostBusyError
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
    JobEntry,
    LogText,
    Pushed,
    Started,
    Vitals,
)
from tests.services.paths import CASES, ROOT

if TYPE_CHECKING:
    from pydantic import BaseModel

WIRE = CASES / "wire"
# Each class of answers, and its members on the wire with what they may be.
MEMBERS: dict[type[BaseModel], dict[str, str]] = {
    Hello: dict.fromkeys(("agent", "python", "machine_id", "boot_id"), "name")
    | {"state": "words"}
    | dict.fromkeys(("pid", "parent", "parent_start"), "count"),
    LogText: {"log": "text", "offset": "count"},
    ContextReceived: dict.fromkeys(("entries", "bytes", "files", "received"), "count"),
    BasesHeld: {"pulled": "count", "kept": "count"},
    BasesLoaded: {"loaded": "count", "kept": "count"},
    HeldImage: {"image_id": "name", "size": "count"},
    Started: {"pid": "count", "slot": "count"},
    Pushed: {"digest": "name", "size": "count"},
    JobEntry: {"job": "job", "state": "name", "since": "number"},
    Vitals: {"engine": "silence", "disk": "silence"},
}
# JSON as Python reads it: also halves of surrogate pairs, integers of any size, NaN, and true, which is an int.
TEXTS = st.text(st.characters(), max_size=5) | st.just("\udcff")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.sampled_from(["5", "1.5", 1.0, 1 << 64]),
    lambda values: st.lists(values, max_size=2) | st.dictionaries(TEXTS, values, max_size=2),
    max_leaves=3,
)
NAMES = st.text(st.characters(categories=["L", "N"]), max_size=5)
NUMBERS = st.integers(-(1 << 64), 1 << 64) | st.floats()
OF_KIND: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXTS,
    "words": TEXTS,
    "name": NAMES | TEXTS,
    "job": st.from_regex(r"[a-z0-9][a-z0-9-]{0,79}", fullmatch=True) | NAMES,
    "count": st.integers() | st.just(1 << 64),
    "number": NUMBERS,
    "silence": NUMBERS,
}
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


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense\n", b"[]\n", b"\xff\n", b'{"a": "' + b"x" * LARGEST + b'"}\n', b"[" * 100_000 + b"\n",
        b'{"a": ' * 100_000 + b"\n", b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}\n", b'{"a": NaN}\n', b'{"a": 1e999}\n',
        b'{"a": 1%s}\n' % (b"0" * 400), b'{"a": 1%s}\n' % (b"0" * 5000), b'{"a": [%s1]}\n' % (b"[]," * 60_000),
        '{"a": 1}\n'.encode("utf-16-le"),
    ],
    ids=lambda line: repr(line[:12]),
)  # fmt: skip
async def test_what_is_no_frame_is_refused(line: bytes):
    """After the greeting nothing but frames is accepted."""
    with pytest.raises(LostError) as refused:
        await reading(line).frame()
    assert refused.value.code == "protocol"


async def test_text_of_a_frame_is_text_for_every_encoder():
    """Half of a surrogate pair would end whoever stores or prints it; a name that is not UTF-8 keeps its bytes."""
    sent = rb'{"\ud800": ["\udcff.c \ud83d\ude00 \udfff", {"log": "\u00fc\ufffd"}]}'
    frame = await reading(sent, b"\n").frame()

    assert frame == {"\ufffd": ["\\xff.c \U0001f600 \ufffd", {"log": "ü\ufffd"}]}
    assert json.dumps(frame, ensure_ascii=False).encode()


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


def fits(kind: str, value: object) -> bool:
    """Whether this is such a member, by the words of `agents/README.md`."""
    match kind, value:
        case "text" | "words", str():
            return True
        case "name", str():
            return value.isprintable() and len(value) <= 256 and "\ufffd" not in value
        case "job", str():
            return re.fullmatch("[a-z0-9][a-z0-9-]{0,79}", value) is not None
        case "count" | "number" | "silence", bool():
            return False
        case "count", int():
            return 0 <= value < 2**63
        case "number" | "silence", int() | float():
            return isfinite(value) and (kind == "number" or value >= 0)
    return False


def _read_as(kind: str, value: object) -> object:
    if kind == "words":
        return visible_text(value)
    return float(value) if kind in ("number", "silence") else value


@given(st.data())
@pytest.mark.parametrize("kind", MEMBERS)
def test_an_answer_has_exactly_its_members(kind: type[BaseModel], data: st.DataObject):
    """Accepted where each member is what it may be, whatever else is there; else LostError `protocol`."""
    kinds = MEMBERS[kind]
    members = {name: data.draw(OF_KIND[of] | VALUES, label=name) for name, of in kinds.items()}
    for name in data.draw(st.sets(st.sampled_from([*kinds]), max_size=1), label="absent"):
        del members[name]
    good = {name: name in members and fits(of, members[name]) for name, of in kinds.items()}
    fields = data.draw(st.dictionaries(TEXTS, VALUES, max_size=2)) | members

    if all(good.values()):
        answer = replies.read("pi5", fields, kind).model_dump(by_alias=True)
        assert answer == {name: _read_as(of, members[name]) for name, of in kinds.items()}
    else:
        with pytest.raises(LostError, match="host 'pi5': the agent's reply cannot be read: ") as refused:
            replies.read("pi5", fields, kind)
        assert refused.value.code == "protocol"
        assert any(f"'{name}' is " in refused.value.message for name, fit in good.items() if not fit)
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
    ("op", "code", "is_legal"),
    [
        ("push", "refused", True), ("create", "disk", True), ("prune", "engine", True), ("pull", "tunnel", True),
        ("start", "no_context", True), ("follow", "unknown_job", True), ("probe", "internal", True),
        ("create", "spec_differs", True), ("image", "not_built", True), ("create", "busy", True),
        ("start", "refused", False), ("pull", "refused", False), ("start", "changed", False), ("jobs", "news", False),
        ("context", "changed", False), ("context", "started", False), ("create", "bad_request", False),
        ("jobs", "engine", False), ("forget", "unknown_job", False), ("create", "connection", False),
    ],
)  # fmt: skip
def test_a_host_ends_its_own_work_only(op: str, code: str, is_legal: object):
    """Whatever it answers: what the operation may answer keeps its code, and everything else is `protocol`."""
    error = error_codes.failure("pi5", op, {"code": code, "message": "what happened"})

    assert type(error) is LostError
    assert (error.code == code) is is_legal
    assert error.code in (code, "protocol")
    assert error.message.startswith("host 'pi5': ")
    assert error.message.endswith("what happened")


def test_the_codes_are_those_of_the_contract():
    """Each row of the table of operations in `agents/README.md` names the codes that its operation may answer."""
    readme = (ROOT / "agents" / "README.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|[^|]*\|([^|]*)\|$", readme, re.MULTILINE)
    assert len(rows) > 10
    for op, parameters, errors in rows:
        always = {"busy", "disk", "internal", "read_only"} | ({"state"} if op == "probe" else set())
        if "`job`" in parameters and op not in {"create", "forget"}:
            always |= {"unknown_job"}
        named = set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", errors).partition(":")[0]))
        if op != "context":
            assert error_codes.CODES[op] == named | always, op


@pytest.mark.parametrize(
    ("state", "code", "is_legal"),
    [
        ("LOST", "disk", True), ("LOST", "engine", True), ("LOST", "base", True), ("FAILED", "build", True),
        ("LOST", "registry", False), ("LOST", "changed", False), ("LOST", "mismatch", False), ("LOST", "x", False),
        ("FAILED", "registry", False), ("FAILED", "disk", False), ("FAILED", "mismatch", False),
    ],
)  # fmt: skip
def test_a_job_ends_as_jobs_do_on_hosts(state: str, code: str, is_legal: object):
    """A host that names the registry, or the inputs, would end the work of all others."""
    fields = {"state": state, "code": code, "message": "m", "seconds": 1, "log_size": 0}
    if is_legal:
        assert error_codes.ended("pi5", fields).code == code
    else:
        with pytest.raises(LostError) as refused:
            error_codes.ended("pi5", fields)
        assert refused.value.code == "protocol"


def test_a_busy_host_says_who_holds_it():
    """`busy` is an error of its own, because the job only has to wait."""
    error = error_codes.failure("pi5", "start", json.loads(REPLIES.splitlines()[4])["error"])

    assert isinstance(error, HostBusyError)
    assert (error.holder, error.since) == ("bob@nas 91c2-amd64-1", 1763930000.0)
