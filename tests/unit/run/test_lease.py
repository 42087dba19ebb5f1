"""A lease ends when its driver is dead, and never because it is slow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.run.lease import HEARTBEAT_S, STALE_S, Driver, Lease

TIMES = st.floats(0.0, 4e9)


def lease(beat_at: float) -> Lease:
    driver = Driver(token="t", holder="ada@here", pid=1, started="1", boot_id="b")
    return Lease(driver=driver, beat_at=beat_at)


@given(TIMES, TIMES)
def test_what_is_known_of_the_process_decides(beat_at, now):
    """Alive is never stale, gone is stale at once, whatever the clock says."""
    assert not lease(beat_at).is_stale(now, alive=True)
    assert lease(beat_at).is_stale(now, alive=False)


@given(TIMES, st.floats(0.0, STALE_S))
def test_a_late_beat_is_no_death(beat_at, silent):
    """Where nobody can look, a driver may miss a beat or two."""
    assert STALE_S >= 3 * HEARTBEAT_S
    assert not lease(beat_at).is_stale(beat_at + silent * 0.999, None)


def test_the_limit_itself_is_no_death():
    assert not lease(0.0).is_stale(STALE_S, None)
    assert not lease(STALE_S).is_stale(0.0, None)


@given(TIMES, st.floats(STALE_S + 1.0, 1e9))
def test_silence_is_death_where_nobody_can_look(beat_at, silent):
    """Also before the last beat: a board without a clock of its own starts in the past, and waits for nobody."""
    assert lease(beat_at).is_stale(beat_at + silent, None)
    assert lease(beat_at + silent).is_stale(beat_at, None)
