"""What is kept of runs that are over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.run.log_budget import RunFolder, over_budget, too_many, too_old
from coordinator.domain.run.model import Run
from coordinator.domain.run.states import TargetState

NOW = 1e6
KEPT = st.lists(
    st.builds(
        RunFolder,
        run=st.uuids().map(str),
        size=st.integers(min_value=0, max_value=100),
        at=st.floats(min_value=0, max_value=NOW),
        ended=st.none() | st.booleans(),
    ),
    unique_by=lambda one: one.run,
)


def run(name: str, created: float, finished: float | None) -> Run:
    return Run(
        id=name,
        request={},
        target_state=TargetState.OPEN,
        index_digest="",
        jobs=(),
        created_at=created,
        finished_at=finished,
    )


RUNS = st.lists(
    st.builds(run, st.uuids().map(str), st.floats(0, 100), st.none() | st.floats(100, 200)),
    unique_by=lambda one: one.id,
)


@given(KEPT, st.integers(min_value=0, max_value=500))
def test_what_stays_is_within_the_budget_or_may_not_go(kept, budget):
    """As few as possible go, the oldest first, and none of a run that is not over."""
    gone = over_budget(kept, budget, NOW)

    left = [one for one in kept if one.run not in gone]
    went = [one for one in kept if one.run in gone]
    assert all(one.may_go(NOW) for one in went)
    assert all(one.ended is not False for one in went)
    if sum(one.size for one in left) > budget:
        assert not any(one.may_go(NOW) for one in left)
    if went:
        # Of two that were written at the same time, either may be the last that had to go.
        latest = next(one for one in went if one.run == gone[-1])
        assert sum(one.size for one in left) + latest.size > budget
        assert all(one.at >= latest.at for one in left if one.may_go(NOW))


def test_a_folder_of_nobody_goes_after_a_day():
    """It may belong to a run that has no history."""
    fresh = RunFolder(run="a", size=1, at=NOW - 86000, ended=None)
    old = RunFolder(run="b", size=1, at=NOW - 87000, ended=None)

    assert over_budget([fresh, old], 0, NOW) == ("b",)


@given(RUNS, st.integers(min_value=0, max_value=5))
def test_the_latest_stay(runs, keep):
    """Of those that have ended; what has not is never among those that go."""
    gone = too_many(runs, keep)

    ended = [one for one in runs if one.finished_at is not None]
    assert len(gone) == max(0, len(ended) - keep)
    assert all(one.finished_at is not None for one in gone)
    stay = [one for one in ended if one not in gone]
    assert all((one.created_at, one.id) < (other.created_at, other.id) for one in gone for other in stay)
    assert list(gone) == sorted(gone, key=lambda one: (one.created_at, one.id))


def test_runs_that_began_together_go_in_the_order_of_their_ids():
    runs = [run(name, 1.0, 100.0) for name in "cab"]

    assert [one.id for one in too_many(runs, 1)] == ["a", "b"]


@given(RUNS, st.floats(100, 200))
def test_the_old_go(runs, before):
    """By when they ended, not by when they began."""
    assert {one.id for one in too_old(runs, before)} == {
        one.id for one in runs if one.finished_at is not None and one.finished_at < before
    }
