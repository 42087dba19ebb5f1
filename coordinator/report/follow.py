"""Follow a run by its recorded events, from the first one on. Following does not influence the run."""

from __future__ import annotations

import time
from collections.abc import Callable

from coordinator.domain.clock_steps import ContinuousTime
from coordinator.domain.run.events import RunEnded, RunStarted
from coordinator.domain.run.status import Status
from coordinator.report.record import RecordReader
from coordinator.report.watch import Watch

POLL_S = 0.2
# The end of a run is committed to the store shortly before it is recorded: wait this long for the RunEnded event.
_RUN_ENDED_TIMEOUT_S = 2.0


class Moment:
    """A clock for replayed events: the time of the event that is being reported, else the current time.

    It goes on where the clock of the run's driver was set back, also between two drivers.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._time = ContinuousTime()
        self._at: float | None = None

    def __call__(self) -> float:
        return self._clock() + self._time.shift if self._at is None else self._at

    def move(self, at: float | None) -> None:
        """Set the time to that of the next event; None: to the current time."""
        self._at = None if at is None else self._time(at)


def follow(reader: RecordReader, watch: Watch, moment: Moment, look: Callable[[], Status]) -> RunEnded | None:
    """Report recorded events until `look` returns another status than RUNNING. Return the RunEnded, if recorded."""
    ended: RunEnded | None = None

    def report_new() -> None:
        nonlocal ended
        for at, event in reader.new():
            moment.move(at)
            watch(event)
            if isinstance(event, RunStarted | RunEnded):
                ended = event if isinstance(event, RunEnded) else None
        moment.move(None)

    # Read the status before the record: all events recorded before the end are then reported.
    status = look()
    report_new()
    timeout_s = _RUN_ENDED_TIMEOUT_S if status is Status.RUNNING else 0.0
    while status is Status.RUNNING:
        time.sleep(POLL_S)
        status = look()
        report_new()
    deadline = time.monotonic() + timeout_s
    while ended is None and status.is_over and time.monotonic() < deadline:
        time.sleep(POLL_S)
        report_new()
    return ended
