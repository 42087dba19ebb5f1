"""Events as lines of JSON, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import get_args, get_type_hints

from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.image.platforms import Mode, Platform, parse
from coordinator.domain.run.events import Event, Place, RunEnded, StepLine
from coordinator.report.rawjson import from_json_line, to_json_line

# As file names and outputs are read: bytes that are not UTF-8 are lone low surrogates.
TEXTS = st.text() | st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
PLATFORMS = st.sampled_from(["linux/amd64", "linux/arm64", "linux/arm/v7", "windows/amd64"]).map(parse)
SECONDS = st.floats(min_value=0, max_value=1e7).map(lambda seconds: round(seconds, 3))

OF = {
    str: TEXTS,
    bool: st.booleans(),
    int: st.integers(),
    float: SECONDS,
    Platform: PLATFORMS,
    Place: st.builds(Place, platform=PLATFORMS, host=TEXTS, mode=st.sampled_from(Mode)),
    tuple[str, ...]: st.lists(TEXTS).map(tuple),
    tuple[Platform, ...]: st.lists(PLATFORMS).map(tuple),
    Mapping[str, str]: st.dictionaries(TEXTS, TEXTS),
}
EVENTS = st.one_of(
    st.builds(kind, **{name: OF[hint] for name, hint in get_type_hints(kind).items()}) for kind in get_args(Event)
)
PLACE = Place(platform=parse("linux/arm/v7"), host="beast", mode=Mode.EMULATED)


@given(EVENTS, SECONDS)
def test_every_event_comes_back_as_it_was(event, at):
    """Whatever an event holds, a line gives back the very same event, and when it was."""
    line = to_json_line(event, at).encode(errors="backslashreplace")

    assert b"\n" not in line
    assert from_json_line(line) == (at, event)


@given(EVENTS, st.data())
def test_a_line_that_was_cut_off_is_no_event(event, data):
    """A writer that dies in the middle of a line leaves nothing that could be taken for an event."""
    line = to_json_line(event, 1.5).encode(errors="backslashreplace")
    cut = data.draw(st.integers(min_value=0, max_value=len(line) - 1))

    assert from_json_line(line[:cut]) is None


def test_a_newer_version_may_say_more():
    """Events nobody here knows are skipped, and so are new fields of those that are known."""
    known = {**json.loads(to_json_line(StepLine(PLACE, "text"), 1.5)), "colour": "red"}

    assert from_json_line('{"event": "run_paused", "at": 1.0, "run": "7f3a"}') is None
    assert from_json_line(json.dumps(known)) == (1.5, StepLine(PLACE, "text"))


def test_what_is_no_event_is_skipped():
    """Nothing that may stand in a file makes a reader fall over."""
    lines = (
        b"", b"null", b"[]", b"7", b"{", b"{}", b'{"event": []}', b'{"event": "notice", "at": 1.0}',
        b'{"event": "notice", "text": "x"}',
        b'{"event": "notice", "at": 1.0, "text": 7}',
        b'{"event": "waiting", "at": 1.0, "platform": "nope", "reason": ""}',
        b'{"event": "waiting", "at": 1.0, "platform": 3, "reason": ""}',
        b'{"event": "notice", "text": "x", "at": "noon"}', b"\xff\xfe",
        b'{"event": "step_line", "at": 1.0, "host": "a", "mode": "warp", "platform": "linux/arm64", "text": ""}',
        b'{"event": "run_started", "at": 1.0, "run": "1", "tags": "x", "platforms": 3, "log_folder": "/x"}',
    )  # fmt: skip

    assert [line for line in lines if from_json_line(line) is not None] == []


def test_a_field_that_came_later_has_its_default():
    """A record of an older version lacks what events had not got yet."""
    line = '{"event": "run_ended", "at": 1.5, "run": "7f3a", "exit_code": 0, "digest": "", "tags": []}'

    assert from_json_line(line) == (1.5, RunEnded(run="7f3a", exit_code=0, digest="", tags=()))
