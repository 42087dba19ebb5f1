"""The entries of a run and of its jobs from the store alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.domain.image.platforms import Mode, parse
from coordinator.domain.run.history import AttemptChange, JobChange, RunChange, RunEnded, TagMoved, TargetChange
from coordinator.domain.run.model import Attempt, Job, Run, StoredEvent, TagMove
from coordinator.domain.run.states import AttemptEvent, AttemptState, JobEvent, JobState, TargetEvent, TargetState
from coordinator.domain.why.entries import TimelineKind
from coordinator.domain.why.from_store import job_timeline, run_timeline

A, AE, J, JE = AttemptState, AttemptEvent, JobState, JobEvent
ARM64, ARMV7 = parse("linux/arm64"), parse("linux/arm/v7")
OLD, NEW = "sha256:" + "1" * 64, "sha256:" + "2" * 64
FIRST = Attempt(id=1, job_id=1, number=1, host="pi4", mode=Mode.NATIVE, state=A.LOST, started_at=1.0)
SECOND = replace(FIRST, id=2, number=2, host="pi5", mode=Mode.COMPAT, state=A.PUSHED, started_at=10.0)
JOB = Job(
    id=1,
    platform=ARM64,
    state=J.VERIFIED,
    build_id="",
    child={"pin": "archloom-1", "digest": NEW},
    attempts=(FIRST, SECOND),
)
RUN = Run(
    id="7f3a",
    request={},
    target_state=TargetState.PUBLISHED,
    index_digest=NEW,
    jobs=(JOB,),
    tags=(
        TagMove(reference="nas/app:1", previous=OLD, moved=True),
        TagMove(reference="nas/app:2", previous="", moved=True),
        TagMove(reference="nas/app:3", previous=NEW, moved=True),
    ),
)


def event(at: float, what, **data: str) -> StoredEvent:
    return StoredEvent(at=at, what=what, data=data)


def step(at: float, number: int, before: A, change: AE, after: A | None, **data: str) -> StoredEvent:
    return event(at, AttemptChange(ARM64, number, before, change, after), **data)


# The first attempt builds and is lost; the second loses a push, repeats it, and is verified.
EVENTS = [
    event(1.0, JobChange(ARM64, J.PENDING, JE.ASSIGN, J.ACTIVE)),
    step(2.0, 1, A.ASSIGNED, AE.SEND, A.SENDING),
    step(4.0, 1, A.SENDING, AE.SENT, A.BUILDING),
    step(7.0, 1, A.BUILDING, AE.LOSE, A.LOST, code="disk", message="no space left"),
    step(7.5, 1, A.LOST, AE.BUILT, None),
    event(8.0, JobChange(ARM64, J.ACTIVE, JE.RETRY, J.PENDING)),
    event(8.5, JobChange(ARMV7, J.PENDING, JE.SKIP, J.SKIPPED)),
    step(11.0, 2, A.ASSIGNED, AE.SEND, A.SENDING),
    step(12.0, 2, A.SENDING, AE.SENT, A.BUILDING),
    step(20.0, 2, A.BUILDING, AE.BUILT, A.BUILT),
    step(20.0, 2, A.BUILT, AE.PUSH, A.PUSHING),
    step(21.0, 2, A.PUSHING, AE.PUSH_LOST, A.BUILT, code="tunnel"),
    step(21.0, 2, A.BUILT, AE.PUSH, A.PUSHING),
    step(25.0, 2, A.PUSHING, AE.PUSHED, A.PUSHED),
    event(27.0, JobChange(ARM64, J.ACTIVE, JE.VERIFY, J.VERIFIED)),
    event(28.0, JobChange(ARM64, J.VERIFIED, JE.CANCEL, None)),
]


def test_a_job_has_its_attempts_their_phases_and_its_end_in_order():
    """A phase lasts from one step to the next, verification to the job's own end; other jobs' steps are not its own."""
    entries = [(one.at, one.kind, one.name, one.seconds) for one in job_timeline(JOB, EVENTS)]

    assert entries == [
        (1.0, TimelineKind.NOTE, "attempt", None),
        (2.0, TimelineKind.PHASE, "send", 2.0),
        (4.0, TimelineKind.PHASE, "build", 3.0),
        (7.0, TimelineKind.ERROR, "attempt", None),
        (10.0, TimelineKind.NOTE, "attempt", None),
        (11.0, TimelineKind.PHASE, "send", 1.0),
        (12.0, TimelineKind.PHASE, "build", 8.0),
        (20.0, TimelineKind.PHASE, "push", 1.0),
        (21.0, TimelineKind.ERROR, "attempt", None),
        (21.0, TimelineKind.PHASE, "push", 4.0),
        (25.0, TimelineKind.PHASE, "verify", 2.0),
        (27.0, TimelineKind.END, "end", None),
    ]


def test_a_build_includes_the_wait_for_its_turn():
    """A job may be sent ahead; the store does not say when its host began to build it."""
    texts = {one.name: one.text for one in job_timeline(JOB, EVENTS) if one.kind is TimelineKind.PHASE}

    assert texts == {
        "send": "send",
        "build": "build, with the wait for its turn",
        "push": "push",
        "verify": "verify",
    }


def test_what_was_lost_is_named_with_its_cause():
    """The attempt by the state that it ended in, a push by what happened to it; the reason only where there is one."""
    errors = [one.text for one in job_timeline(JOB, EVENTS) if one.kind is TimelineKind.ERROR]

    assert errors == ["lost (disk): no space left", "push_lost (tunnel)"]


def test_a_cancelled_attempt_has_no_reason_beside_its_state():
    ended = step(3.0, 1, A.ASSIGNED, AE.CANCEL, A.CANCELLED, message="cancelled")

    assert [one.text for one in job_timeline(JOB, [ended]) if one.kind is TimelineKind.ERROR] == ["cancelled"]


def test_each_attempt_names_its_host_and_mode():
    first, second = (one.text for one in job_timeline(JOB, []))

    assert "pi4" in first
    assert "native" in first
    assert "pi5" in second
    assert "compat" in second


def test_a_clock_that_was_set_back_makes_no_phase_shorter_than_nothing():
    back = step(0.5, 1, A.SENDING, AE.SENT, A.BUILDING)

    assert [one.seconds for one in job_timeline(JOB, [back]) if one.kind is TimelineKind.PHASE] == [0.0]


@pytest.mark.parametrize(
    ("change", "after", "shown"),
    [
        (JE.VERIFY, J.VERIFIED, "archloom-1"),
        (JE.REUSE, J.VERIFIED, "archloom-1"),
        (JE.FAIL, J.FAILED, "failed"),
        (JE.LOSE, J.LOST, "lost"),
        (JE.CANCEL, J.CANCELLED, "cancelled"),
        (JE.SKIP, J.SKIPPED, "skipped"),
    ],
)
def test_a_jobs_end_is_its_last_entry(change, after, shown):
    """A verified child by its pin and digest, any other end by its state."""
    (end,) = job_timeline(replace(JOB, attempts=()), [event(3.0, JobChange(ARM64, J.ACTIVE, change, after))])

    assert (end.at, end.kind) == (3.0, TimelineKind.END)
    assert shown in end.text
    assert (NEW[:19] in end.text) is (after is J.VERIFIED)
    assert (shown == end.text) is (after is not J.VERIFIED)


def test_a_reused_child_is_not_shown_as_built():
    reused, built = (
        job_timeline(replace(JOB, attempts=()), [event(3.0, JobChange(ARM64, J.PENDING, change, J.VERIFIED))])[0].text
        for change in (JE.REUSE, JE.VERIFY)
    )

    assert reused != built


def test_a_run_has_its_drivers_its_tags_and_its_end():
    """What is not the run's own, or of another archloom version, is left out."""
    events = [
        event(1.0, RunChange.CREATED, holder="ann@nas"),
        event(2.0, RunChange.RELEASED),
        event(3.0, RunChange.TAKEN_UP, holder="bob@pi5"),
        event(4.0, RunChange.TAKEN_OVER, holder="eve@pi4", before="bob@pi5", silent="42 s"),
        event(5.0, RunChange.CANCEL_ASKED),
        event(6.0, None),
        event(7.0, TargetChange(TargetState.OPEN, TargetEvent.COMPLETE, TargetState.READY)),
        event(8.0, JobChange(ARM64, J.ACTIVE, JE.VERIFY, J.VERIFIED)),
        event(9.0, TagMoved("nas/app:1")),
        event(10.0, RunEnded(0)),
    ]

    entries = run_timeline(RUN, events)

    assert [one.at for one in entries] == [1.0, 2.0, 3.0, 4.0, 5.0, 9.0, 10.0]
    assert {(one.kind, one.name) for one in entries} == {(TimelineKind.NOTE, "run")}
    facts = [("ann@nas",), (), ("bob@pi5",), ("eve@pi4", "bob@pi5", "42 s"), (), ("nas/app:1", OLD[:19]), ("0",)]
    for entry, words in zip(entries, facts, strict=True):
        assert all(word in entry.text for word in words)


@pytest.mark.parametrize(
    ("reference", "before", "after"),
    [("nas/app:1", True, True), ("nas/app:2", False, True), ("nas/app:3", False, True), ("nas/app:9", False, True)],
)
def test_a_tag_is_shown_with_the_digest_it_got(reference, before, after):
    """And with the one that it had, where it had another."""
    (entry,) = run_timeline(RUN, [event(1.0, TagMoved(reference))])

    assert (OLD[:19] in entry.text, NEW[:19] in entry.text) == (before, after)
    assert ("→" in entry.text) is (reference != "nas/app:3")


def test_a_run_without_a_known_holder_names_none():
    (entry,) = run_timeline(RUN, [event(1.0, RunChange.CREATED)])

    assert not entry.text.endswith(" ")
