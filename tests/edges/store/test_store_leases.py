"""One coordinator drives a run: what every store owes to the one that does, and to those that would like to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.domain.image.platforms import Mode
from coordinator.domain.run.history import RunChange
from coordinator.domain.run.lease import STALE_S, Lease
from coordinator.domain.run.states import AttemptEvent, JobEvent, TargetEvent
from coordinator.errors import DrivenElsewhereError, Exit, UsageError
from coordinator.store.sqlite import Store
from tests.edges.store.store_bed import CHILD, OURS, THEIRS, TO_PUSHED, assigned, create, end, told


def test_a_run_is_driven_from_its_first_moment(store):
    """Whoever makes a run holds its lease: there is no moment in which another could take it for abandoned."""
    run = create(store)

    assert run.lease == Lease(driver=OURS, beat_at=1000.0)


def test_a_driven_run_is_refused_to_another(shared):
    """The refusal says who drives it and when that was last heard of, and what can be done."""
    one, other = shared.open(), shared.open()
    create(one)
    shared.now += 12.0

    with pytest.raises(
        DrivenElsewhereError, match=r"run 7f3a is driven by ada@here .pid .*, last heard of 12 s ago"
    ) as caught:
        other.take_lease("7f3a", THEIRS)

    assert caught.value.code == "held"
    assert caught.value.exit_code == Exit.HELD
    assert "archloom attach 7f3a" in caught.value.hint
    assert other.run("7f3a").lease == Lease(driver=OURS, beat_at=1000.0)


@pytest.mark.parametrize(
    ("alive", "silent", "taken"),
    [
        (False, 0.0, True),
        (True, 1e6, False),
        (None, STALE_S, False),
        (None, STALE_S + 1.0, True),
        (None, -STALE_S - 1.0, True),
    ],
)
def test_a_stale_lease_is_taken_over(shared, alive, silent, taken):
    """At once where the process is gone, never where it lives, by the heartbeat where nobody can tell."""
    one, other = shared.open(), shared.open()
    create(one)
    shared.now += silent
    shared.alive = alive

    if taken:
        run = other.take_lease("7f3a", THEIRS)
        assert run.lease == Lease(driver=THEIRS, beat_at=shared.now)
        event = other.events("7f3a")[-1]
        assert event.what is RunChange.TAKEN_OVER
        assert event.data == {"holder": "bob@there", "before": "ada@here", "silent": f"{max(silent, 0):.0f} s"}
    else:
        with pytest.raises(DrivenElsewhereError):
            other.take_lease("7f3a", THEIRS)
    assert shared.asked == [OURS]


def test_beats_keep_the_lease(shared):
    """A driver nobody can look at keeps its run as long as it beats."""
    one, other = shared.open(), shared.open()
    create(one)
    shared.alive = None
    for _ in range(5):
        shared.now += STALE_S - 1.0
        one.beat("7f3a")
        with pytest.raises(DrivenElsewhereError):
            other.take_lease("7f3a", THEIRS)

    assert told(one) == ["run created"]


def writes(store, run, attempt):
    """Everything that changes a run."""
    return {
        "assign": lambda: store.assign(run.jobs[1].id, "pi4", Mode.NATIVE),
        "move_attempt": lambda: store.move_attempt(attempt.id, AttemptEvent.LOSE),
        "move_job": lambda: store.move_job(run.jobs[1].id, JobEvent.SKIP),
        "verify_job": lambda: store.verify_job(run.jobs[0].id, CHILD, winner=attempt.id),
        "move_target": lambda: store.move_target("7f3a", TargetEvent.GIVE_UP),
        "expect_tag": lambda: store.expect_tag("7f3a", "nas/app:1", ""),
        "tag_moved": lambda: store.tag_moved("7f3a", "nas/app:1"),
        "finish": lambda: store.finish("7f3a", 4),
        "release": lambda: store.release("7f3a"),
        "beat": lambda: store.beat("7f3a"),
    }


WRITES = list(writes(None, None, None))


@pytest.mark.parametrize("write", WRITES)
def test_whoever_lost_the_run_changes_nothing_any_more(shared, write):
    """A coordinator that slept through its own replacement learns of it at its next write, which is not done."""
    one, other = shared.open(), shared.open()
    run = create(one)
    attempt = assigned(one, run.jobs[0].id, *TO_PUSHED)
    shared.alive = False
    other.take_lease("7f3a", THEIRS)
    before, events = other.run("7f3a"), other.events("7f3a")

    with pytest.raises(DrivenElsewhereError, match="run 7f3a was taken over by bob@there") as caught:
        writes(one, run, attempt)[write]()

    assert caught.value.code == "taken"
    assert "archloom attach 7f3a" in caught.value.hint
    assert (other.run("7f3a"), other.events("7f3a")) == (before, events)
    writes(other, run, attempt)["assign"]()


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    ("leave", "said", "hint"),
    [
        ("finish", "run 7f3a has ended already", "see how: archloom why 7f3a"),
        ("release", "this process no longer drives run 7f3a", "resume it with: archloom resume 7f3a"),
    ],
)
def test_a_run_that_was_let_go_is_not_changed(store, write, leave, said, hint):
    """Not even by who had it: a write after the end is a report that came too late. Only what can be resumed is said
    to be."""
    run = create(store)
    attempt = assigned(store, run.jobs[0].id, *TO_PUSHED)
    store.move_target("7f3a", TargetEvent.GIVE_UP)
    writes(store, run, attempt)[leave]()
    before = store.run("7f3a")

    with pytest.raises(DrivenElsewhereError) as caught:
        writes(store, run, attempt)[write]()

    assert (caught.value.message, caught.value.hint, caught.value.code) == (said, hint, "taken")
    assert store.run("7f3a") == before


@pytest.mark.parametrize("write", WRITES)
def test_whoever_only_looks_on_changes_nothing(shared, write):
    """A store that never took the run cannot write to it, though it is the same process."""
    one, other = shared.open(), shared.open()
    run = create(one)
    attempt = assigned(one, run.jobs[0].id, *TO_PUSHED)
    before = one.run("7f3a")

    with pytest.raises(DrivenElsewhereError):
        writes(other, run, attempt)[write]()

    assert one.run("7f3a") == before


def test_a_released_run_is_free_at_once(shared):
    """A driver that leaves in order keeps nobody waiting, and says so."""
    one, other = shared.open(), shared.open()
    create(one)
    one.release("7f3a")

    assert one.run("7f3a").lease is None
    run = other.take_lease("7f3a", THEIRS)

    assert run.lease == Lease(driver=THEIRS, beat_at=1000.0)
    assert told(one)[-2:] == ["run released", "run taken up"]
    assert one.events("7f3a")[-1].data == {"holder": "bob@there"}


def test_driving_again_with_the_same_token_is_no_takeover(bed, store):
    """Safe to repeat: who has the lease gets it."""
    create(store)
    bed.now += 5.0

    assert store.take_lease("7f3a", OURS).lease == Lease(driver=OURS, beat_at=1005.0)
    assert "run taken over" not in told(store)


def test_each_driving_has_a_token_of_its_own(shared):
    """The same process that drives a run twice is two drivers: the first is told that it is one no more."""
    one, other = shared.open(), shared.open()
    create(one)
    again = replace(OURS, token="again")
    with pytest.raises(DrivenElsewhereError):
        other.take_lease("7f3a", again)

    shared.alive = False
    other.take_lease("7f3a", again)

    with pytest.raises(DrivenElsewhereError):
        one.finish("7f3a", 0)
    end(other)


def test_a_finished_run_is_not_driven_again(shared):
    """Where it is said how it ended is said."""
    one, other = shared.open(), shared.open()
    create(one)
    end(one)

    with pytest.raises(UsageError, match="run 7f3a has ended already") as caught:
        other.take_lease("7f3a", THEIRS)
    assert caught.value.hint == "see how: archloom why 7f3a"
    with pytest.raises(UsageError, match="no run 'nope'"):
        other.take_lease("nope", THEIRS)


def test_anybody_may_ask_for_a_run_to_be_cancelled(shared):
    """It is told once, and left to the driver; a run that has ended does not change."""
    one, other = shared.open(), shared.open()
    create(one)
    assert not one.cancel_asked("7f3a")

    other.ask_cancel("7f3a")
    other.ask_cancel("7f3a")

    assert one.cancel_asked("7f3a")
    assert one.run("7f3a").cancel_asked
    assert told(one) == ["run created", "cancel asked"]
    end(one, "7f3a", Exit.INTERRUPTED)
    before = one.run("7f3a")
    other.ask_cancel("7f3a")
    assert one.run("7f3a") == before


def test_a_lease_goes_by_the_systems_clock(tmp_path):
    """Two machines that share the store agree on it, also after it was set; a run's own times go on evenly."""
    wall = 1000.0
    path = tmp_path / "archloom.db"
    with (
        Store(path, lambda: 1000.0, wall_clock=lambda: wall, is_alive=lambda _: None) as one,
        Store(path, lambda: 99_000.0, wall_clock=lambda: wall, is_alive=lambda _: None) as other,
    ):
        create(one)
        wall += 10_800.0
        one.beat("7f3a")

        with pytest.raises(DrivenElsewhereError, match="last heard of 0 s ago"):
            other.take_lease("7f3a", THEIRS)

        assert {event.at for event in one.events("7f3a")} == {1000.0}
