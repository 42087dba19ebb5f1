"""The story of a job, told from what was recorded of its run."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.image.platforms import Mode, parse
from coordinator.domain.run.events import (
    PUSH_LOST,
    SENT_SO_FAR,
    Assigned,
    AttemptEnded,
    Event,
    Phase,
    PhaseEnded,
    Place,
    RunEnded,
    StepLine,
    Waiting,
)
from coordinator.domain.why.entries import Entry, TimelineKind
from coordinator.domain.why.timeline import pair_entries, timeline
from coordinator.report.rawjson import from_json_line
from tests.services.paths import CASES

GOLDEN = CASES / "story"
ARM64 = parse("linux/arm64")
PI5 = Place(platform=ARM64, host="pi5", mode=Mode.NATIVE)
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


def at_seconds(*events: Event) -> list[tuple[float, TimelineKind, str, float | None]]:
    """Event number n at n seconds: the entries without their texts."""
    return [(one.at, one.kind, one.name, one.seconds) for one in timeline(enumerate(events), ARM64)]


def test_a_lost_push_ends_its_phase_and_another_begins():
    events = [
        Assigned(PI5, "assigned"),
        Phase(PI5, "push"),
        Phase(PI5, "push", "12 %"),
        Phase(PI5, "push", f"{PUSH_LOST}it broke off"),
        Phase(PI5, "push", "again"),
        PhaseEnded(PI5, "push", 1.0),
    ]

    assert at_seconds(*events) == [
        (0, TimelineKind.NOTE, "attempt", None),
        (1, TimelineKind.PHASE, "push", 2.0),
        (3, TimelineKind.ERROR, "push", None),
        (4, TimelineKind.PHASE, "push", 1.0),
    ]


def test_how_far_a_context_was_sent_is_not_what_was_sent():
    events = [
        Phase(PI5, "context"),
        Phase(PI5, "context", "2 of 3 files, 61.9 MB"),
        Phase(PI5, "context", f"{SENT_SO_FAR}42 % of 61.9 MB, 2.1 MB/s"),
        PhaseEnded(PI5, "context", 3.0),
    ]

    assert [one.text for one in timeline(enumerate(events), ARM64)] == ["context: 2 of 3 files, 61.9 MB"]


def test_what_is_open_when_the_run_ends_ends_with_it():
    """The wait for a slot, the build and its step; what a next attempt has is its own."""
    title = "[1/2] RUN make"
    events = [
        Assigned(PI5, "assigned"),
        Phase(PI5, "build"),
        StepLine(PI5, f"#5 {title}", title),
        AttemptEnded(place=PI5, state="lost", code="cut", message="", again=True),
        Assigned(PI5, "assigned"),
        Waiting(ARM64, "pi5 is held"),
        RunEnded(run="1", exit_code=5, digest="", tags=()),
    ]

    assert at_seconds(*events) == [
        (0, TimelineKind.NOTE, "attempt", None),
        (1, TimelineKind.PHASE, "build", 2.0),
        (2, TimelineKind.STEP, "RUN make", 1.0),
        (3, TimelineKind.ERROR, "attempt", None),
        (4, TimelineKind.NOTE, "attempt", None),
        (5, TimelineKind.WAIT, "wait", 1.0),
    ]


def test_a_step_that_goes_on_is_told_without_its_end():
    """And one that is no instruction of the Dockerfile only once it has taken time."""
    events = [Assigned(PI5, "assigned"), StepLine(PI5, "#1 [internal] load"), StepLine(PI5, "#2 [2/3] COPY . .")]

    assert at_seconds(*events)[1:] == [(2, TimelineKind.STEP, "COPY . .", None)]


@pytest.mark.parametrize(("seconds", "is_told"), [(0.4, False), (0.5, True)])
def test_a_quick_step_of_the_builder_is_left_out(seconds, is_told):
    events = [StepLine(PI5, "#1 exporting"), StepLine(PI5, f"#1 DONE {seconds}s")]

    assert at_seconds(*events) == ([(0, TimelineKind.STEP, "exporting", seconds)] if is_told else [])


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
