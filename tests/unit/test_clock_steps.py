"""Clocks that are set meanwhile: the times of a process and of a run go on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.cli.environment import even_clock
from coordinator.domain.clock_steps import continuous

TIMES = st.lists(st.floats(-1e9, 1e9), max_size=20)


@given(TIMES)
def test_continuous_times_never_fall(times):
    """And where the clock goes on, so do they, by as much."""
    moved = [at for at, _ in continuous((at, None) for at in times)]

    for (before, after), (moved_before, moved_after) in zip(pairwise(times), pairwise(moved), strict=True):
        assert moved_after >= moved_before
        if after >= before:
            assert moved_after - moved_before == pytest.approx(after - before, abs=1e-6)


def test_times_of_a_clock_that_was_not_set_back_stay():
    assert list(continuous([(1.0, "a"), (1.0, "b"), (5.0, "c")])) == [(1.0, "a"), (1.0, "b"), (5.0, "c")]


def test_the_clock_of_a_process_goes_on_when_the_systems_is_set():
    """Three hours back, as a machine does that had a wrong time until it found a time server."""
    system: Iterator[float] = iter([10_000.0])
    elapsed: Iterator[float] = iter([7.0, 8.0, 60.0])

    clock = even_clock(lambda: next(system), lambda: next(elapsed))

    assert [clock(), clock()] == [10_001.0, 10_053.0]
