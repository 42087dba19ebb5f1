"""Whether a run still goes on, as whoever waits for it has to know."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from coordinator.domain.lease import Driver
from coordinator.domain.run import Run


class Standing(StrEnum):
    """`interrupted`: not over, and nobody drives it."""

    UNDER_WAY = "under way"
    INTERRUPTED = "interrupted"
    ENDED = "ended"


def standing(run: Run, now: float, runs: Callable[[Driver], bool | None]) -> Standing:
    """`now` in epoch seconds; `runs` says whether a driver's process lives, None where it cannot tell."""
    if run.finished_at is not None:
        return Standing.ENDED
    lease = run.lease
    if lease is None or lease.is_stale(now, runs(lease.driver)):
        return Standing.INTERRUPTED
    return Standing.UNDER_WAY
