"""Which ended runs and which run folders the coordinator deletes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coordinator.domain.run.model import Run

# The folder of a run that the store does not know may belong to a run in progress without history.
_STRAY_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """The folder of one run: `size` bytes, last written at `at` (epoch seconds). `ended` is None for an unknown run."""

    run: str
    size: int
    at: float
    ended: bool | None

    def may_go(self, now: float) -> bool:
        """Return whether the folder may be deleted: never while its run is not over; for an unknown run after a day."""
        return now - self.at > _STRAY_S if self.ended is None else self.ended


def over_budget(kept: Sequence[RunFolder], budget: int, now: float) -> tuple[str, ...]:
    """Return the runs whose folders to delete so that the others take at most `budget` bytes, oldest first."""
    excess = sum(log.size for log in kept) - budget
    deleted: list[str] = []
    for log in sorted(kept, key=lambda log: log.at):
        if excess <= 0:
            break
        if log.may_go(now):
            deleted.append(log.run)
            excess -= log.size
    return tuple(deleted)


def too_many(runs: Iterable[Run], keep: int) -> tuple[Run, ...]:
    """Return the ended runs except the `keep` latest, oldest first."""
    return tuple(_ended(runs)[:-keep] if keep else _ended(runs))


def too_old(runs: Iterable[Run], before: float) -> tuple[Run, ...]:
    """Return the runs that ended before `before`, in epoch seconds, oldest first."""
    return tuple(run for run in _ended(runs) if (run.finished_at or 0.0) < before)


def _ended(runs: Iterable[Run]) -> list[Run]:
    ended = (run for run in runs if run.finished_at is not None)
    return sorted(ended, key=lambda run: (run.created_at, run.id))
