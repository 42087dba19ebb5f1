"""What this machine keeps of runs that are over, and what has to go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coordinator.domain.run.model import Run

# A folder of no run that is known may belong to one that goes on without history.
_STRAY_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The folder of one run: `size` bytes, last written at `at`. `ended` is None where the run is not known."""

    run: str
    size: int
    at: float
    ended: bool | None

    def may_go(self, now: float) -> bool:
        """Never that of a run that is not over."""
        return now - self.at > _STRAY_S if self.ended is None else self.ended


def over_budget(kept: Sequence[Kept], budget: int, now: float) -> tuple[str, ...]:
    """The runs whose folders go so that the rest has at most `budget` bytes, oldest first."""
    excess = sum(log.size for log in kept) - budget
    gone: list[str] = []
    for log in sorted(kept, key=lambda log: log.at):
        if excess <= 0:
            break
        if log.may_go(now):
            gone.append(log.run)
            excess -= log.size
    return tuple(gone)


def too_many(runs: Iterable[Run], keep: int) -> tuple[Run, ...]:
    """The ended runs beside the `keep` latest of them, oldest first."""
    return tuple(_ended(runs)[:-keep] if keep else _ended(runs))


def too_old(runs: Iterable[Run], before: float) -> tuple[Run, ...]:
    """The runs that ended before this moment, oldest first."""
    return tuple(run for run in _ended(runs) if (run.finished_at or 0.0) < before)


def _ended(runs: Iterable[Run]) -> list[Run]:
    over = (run for run in runs if run.finished_at is not None)
    return sorted(over, key=lambda run: (run.created_at, run.id))
