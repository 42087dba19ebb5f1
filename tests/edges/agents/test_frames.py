"""The agent's end of the wire, held against the frames that both ends must read."""

from __future__ import annotations

import io
import json

import pytest

from agents.base.errors import AgentError
from agents.job import spec
from agents.wire import frames
from tests.services.paths import CASES

WIRE = CASES / "wire"


def requests(lines: bytes) -> tuple[list[frames.Request], list[AgentError]]:
    malformed: list[AgentError] = []
    return list(frames.requests(io.BytesIO(lines), malformed.append)), malformed


def test_every_golden_request_is_read():
    """The agent reads each request of the golden file, with its parameters."""
    lines = (WIRE / "requests.jsonl").read_bytes()

    read, malformed = requests(lines)

    assert malformed == []
    assert [{"id": one.id, "op": one.op, **one.parameters} for one in read] == [
        json.loads(line) for line in lines.splitlines()
    ]


def test_every_golden_reply_is_written():
    """The agent writes the golden file's replies byte for byte."""
    wanted = (WIRE / "replies.jsonl").read_bytes()
    written = io.BytesIO()
    replies = frames.Replies(written)

    for line in wanted.splitlines():
        body = json.loads(line)
        replies.send(body.pop("id"), body)

    assert written.getvalue() == wanted


def test_the_greeting_begins_a_line_whatever_was_printed_before():
    """Noise that does not end its line cannot swallow the greeting."""
    written = io.BytesIO()
    wanted = (WIRE / "hello.txt").read_bytes()

    frames.Replies(written).greet(json.loads(wanted.removeprefix(frames.MARK)))

    assert written.getvalue() == b"\n" + wanted


@pytest.mark.parametrize(
    "line",
    [
        b"{not json}\n",
        b"[1]\n",
        b'{"op": "probe"}\n',
        b'{"id": true, "op": "probe"}\n',
        b'{"id": 1}\n',
        b'{"id": 1, "op": "create", "spec": "' + b"x" * frames.LARGEST + b'"}\n',
        b"x" * (3 * frames.LARGEST) + b"\n",
        b"\xff\xfe\n",
    ],
)
def test_a_line_that_is_no_request_spoils_only_itself(line: bytes):
    """What cannot be read is an error of its own, and the next request is read."""
    read, malformed = requests(line + b'{"id": 2, "op": "jobs"}\n')

    assert [error.code for error in malformed] == ["bad_request"]
    assert read == [frames.Request(2, "jobs", {})]


@pytest.mark.parametrize("cut", [b'{"id": 1, "op"', b"x" * (frames.LARGEST + 1)])
def test_a_request_the_stream_ends_in_is_none(cut: bytes):
    """A request counts when its line has ended."""
    assert requests(cut) == ([], [])


def golden_spec() -> dict[str, object]:
    second = (WIRE / "requests.jsonl").read_bytes().splitlines()[1]
    found: dict[str, object] = json.loads(second)["spec"]
    return found


def test_the_golden_spec_is_read():
    """Every field of a spec arrives as it was sent."""
    found = spec.parse(golden_spec())

    assert (found.platform, found.engine, found.image) == ("linux/arm/v7", "buildx", "archloom/7f3a:armv7-1")
    assert found.bases[0].repository == "base0"
    assert found.build_args == {"V": "1"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", 2),
        ("engine", "classic"),
        ("platform", "linux"),
        ("image", "nas.lan:5000/app:1"),
        ("image", "archloom/../x:1"),
        ("no_cache", 1),
        ("build_args", {"V": 1}),
        ("labels", None),
        ("bases", {}),
        ("bases", [{"name": "a", "repository": "b", "digest": "latest", "platform": "linux/arm64"}]),
        ("stage", None),
    ],
)
def test_a_spec_with_a_wrong_field_is_refused_by_its_name(name: str, value: object):
    """A spec is refused as a whole, and the message says which field is wrong."""
    with pytest.raises(AgentError, match="digest" if name == "bases" and value else name) as refused:
        spec.parse({**golden_spec(), name: value})

    assert refused.value.code == "bad_request"
