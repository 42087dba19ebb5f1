"""The story of a job, told from what was recorded of its run."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.image.platforms import parse
from coordinator.domain.why.timeline import Entry, TimelineKind, pair_entries, timeline
from coordinator.report.rawjson import from_json_line
from tests.services.paths import CASES

GOLDEN = CASES / "story"
ARM64 = parse("linux/arm64")
NAMES = sorted(path.name for path in GOLDEN.iterdir())


def recorded(case: str):
    lines = (GOLDEN / case / "events.jsonl").read_bytes().splitlines()
    return [found for line in lines if (found := from_json_line(line))]


def rows(entries: tuple[Entry, ...], began: float) -> list[list[object]]:
    """An entry a line, as the golden files have it."""
    return [
        [
            round(entry.at - began, 3),
            entry.kind,
            entry.name,
            entry.text,
            "cached" if entry.cached else None if entry.seconds is None else round(entry.seconds, 3),
        ]
        for entry in entries
    ]


@pytest.mark.parametrize("case", NAMES)
def test_golden(case: str):
    """Runs that went well, badly, or were gone on with: what is told of them, in order, with seconds."""
    expected = json.loads((GOLDEN / case / "expected.json").read_text("utf-8"))

    assert rows(timeline(recorded(case), ARM64), 1000.0) == expected


@given(st.sampled_from(NAMES), st.data())
def test_a_story_can_be_told_at_any_moment(case, data):
    """However far the run has come, or whatever of its record is lost, entries are in order and nothing takes less
    than no time."""
    events = recorded(case)
    events = [event for event in events if data.draw(st.booleans())] if data.draw(st.booleans()) else events
    events = events[: data.draw(st.integers(min_value=0, max_value=len(events)))]

    entries = timeline(events, ARM64)

    assert list(entries) == sorted(entries, key=lambda entry: entry.at)
    assert all(entry.seconds is None or entry.seconds >= 0 for entry in entries)
    assert sum(entry.kind is TimelineKind.END for entry in entries) <= 1


def entry(kind: TimelineKind, name: str, seconds: float) -> Entry:
    return Entry(at=0.0, kind=kind, name=name, text=name, seconds=seconds)


def test_entries_stand_beside_those_of_the_run_before():
    """The second wait beside the second wait, a step beside its own instruction wherever that stood."""
    now = (
        entry(TimelineKind.WAIT, "wait", 1),
        entry(TimelineKind.WAIT, "wait", 2),
        entry(TimelineKind.STEP, "RUN b", 3),
        entry(TimelineKind.STEP, "RUN c", 4),
    )
    before = (
        entry(TimelineKind.STEP, "RUN b", 30),
        entry(TimelineKind.WAIT, "wait", 10),
        entry(TimelineKind.PHASE, "RUN c", 40),
    )

    assert [other.seconds if other else None for _, other in pair_entries(now, before)] == [10, None, 30, None]
