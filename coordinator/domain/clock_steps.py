"""Times of events whose clock was set back meanwhile, made continuous."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf
from typing import TypeVar

T = TypeVar("T")


class ContinuousTime:
    """Moves times up by as much as the clock was set back before them, so that none is before the previous one.

    Called with the times of events in their true order; returns each moved up. A clock that was set forward cannot be
    told from a pause.
    """

    def __init__(self) -> None:
        self.shift = 0.0
        self._last = -inf

    def __call__(self, at: float) -> float:
        self.shift = max(self.shift, self._last - at)
        self._last = max(self._last, at + self.shift)  # the sum may be rounded down
        return self._last


def continuous(events: Iterable[tuple[float, T]]) -> Iterator[tuple[float, T]]:
    """Yield the events, in their true order, with continuous times."""
    time = ContinuousTime()
    for at, event in events:
        yield time(at), event
