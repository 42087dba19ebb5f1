"""A run told from its record: from the beginning, and on as it grows. Whoever follows has no part in it."""

from __future__ import annotations

import time
from collections.abc import Callable

from coordinator.domain.run.events import RunEnded, RunStarted
from coordinator.domain.run.status import Status
from coordinator.report.record import RecordReader
from coordinator.report.watch import Watch

POLL_S = 0.2
# The end of a run is committed a moment before it is told.
_LAST_WORDS_S = 2.0


class Moment:
    """A clock for a report that tells what was: an event's own time while that is told, else the present."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.at: float | None = None

    def __call__(self) -> float:
        return self._clock() if self.at is None else self.at


def follow(reader: RecordReader, watch: Watch, moment: Moment, look: Callable[[], Status]) -> RunEnded | None:
    """Tells what is recorded until `look` says that the run goes on no more. Returns how the record says it ended."""
    ended: RunEnded | None = None

    def tell() -> None:
        nonlocal ended
        for moment.at, event in reader.new():
            watch(event)
            if isinstance(event, RunStarted | RunEnded):
                ended = event if isinstance(event, RunEnded) else None
        moment.at = None

    # Looked before the record is read: what was written before the run ended is told in any case.
    status = look()
    tell()
    patience = _LAST_WORDS_S if status is Status.RUNNING else 0.0
    while status is Status.RUNNING:
        time.sleep(POLL_S)
        status = look()
        tell()
    until = time.monotonic() + patience
    while ended is None and status.is_over and time.monotonic() < until:
        time.sleep(POLL_S)
        tell()
    return ended
