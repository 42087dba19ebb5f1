"""The status of a run in one word: for lists, filters, programs and `archloom wait`."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from coordinator.domain.run.lease import Driver
from coordinator.domain.run.model import Run
from coordinator.domain.run.states import TargetState
from coordinator.errors import Exit


class Status(StrEnum):
    """`interrupted`: not over, and no coordinator drives it; `lost`: hosts or the network failed; `conflict`: another
    client of the registry moved a tag meanwhile; `failed`: any other failure."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    PUBLISHED = "published"
    FAILED = "failed"
    LOST = "lost"
    CONFLICT = "conflict"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        return self not in (Status.RUNNING, Status.INTERRUPTED)


def status(run: Run, now: float, is_alive: Callable[[Driver], bool | None]) -> Status:
    """Return the status. `now` is in epoch seconds; `is_alive` is whether a driver's process lives, None if unknown."""
    if run.finished_at is not None:
        return _end(run)
    lease = run.lease
    if lease is None or lease.is_stale(now, is_alive(lease.driver)):
        return Status.INTERRUPTED
    return Status.RUNNING


def _end(run: Run) -> Status:
    if run.target_state is TargetState.CONFLICT:
        return Status.CONFLICT
    match run.exit_code:
        case Exit.DONE:
            return Status.PUBLISHED
        case Exit.INTERRUPTED:
            return Status.CANCELLED
        case Exit.LOST:
            return Status.LOST
        case _:
            return Status.FAILED
