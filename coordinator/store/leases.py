"""One driver a run: who has the lease, who may take it, and who has lost it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Protocol

from coordinator.domain.run.history import RunStep, Step
from coordinator.domain.run.lease import Driver, Lease
from coordinator.domain.run.model import Run
from coordinator.errors import ArchloomError, HeldError, UsageError
from coordinator.store import rows
from coordinator.store.database import Database


def has_ended(run_id: str, kind: type[ArchloomError], code: str) -> ArchloomError:
    """The refusal of what a run that is over cannot do any more."""
    return kind(f"run {run_id} has ended already", hint=f"archloom why {run_id} says how", code=code)


class Tell(Protocol):
    """Writes an event of a run down, in the transaction under way."""

    def __call__(self, run_id: str, step: Step, **data: str) -> None: ...


class Leases:
    """The leases of one store, and which of them its user holds. Everything happens in the caller's transaction."""

    def __init__(
        self, db: Database, clock: Callable[[], float], is_alive: Callable[[Driver], bool | None], tell: Tell
    ) -> None:
        self._db = db
        self._clock = clock
        self._is_alive = is_alive
        self._tell = tell
        # The token of each run that was taken from here. They only ever compare: one whose transaction was undone, or
        # whose lease has ended since, matches nothing.
        self._ours: dict[str, str] = {}

    def of(self, run_id: str) -> Lease | None:
        return next(map(rows.lease, self._db.all("lease", run_id=run_id)), None)

    def take(self, run_id: str, driver: Driver) -> None:
        self._db.do("take_lease", run_id=run_id, at=self._clock(), **asdict(driver))
        self._ours[run_id] = driver.token

    def take_over(self, run: Run, driver: Driver) -> None:
        """Raises HeldError `held` where another driver has the run and its lease is not stale, and UsageError `ended`
        for one that is over."""
        if run.finished_at is not None:
            raise has_ended(run.id, UsageError, "ended")
        lease, now = run.lease, self._clock()
        if lease is None or lease.driver.token == driver.token:
            self._tell(run.id, RunStep.TAKEN_UP, holder=driver.holder)
        else:
            silent = f"{max(0.0, now - lease.beat_at):.0f} s"
            if not lease.is_stale(now, self._is_alive(lease.driver)):
                raise HeldError(
                    f"run {run.id} is driven by {lease.driver.holder} (pid {lease.driver.pid}), heard of {silent} ago",
                    hint=f"watch it with: archloom attach {run.id}; end it with: archloom cancel {run.id}",
                    code="held",
                )
            self._tell(run.id, RunStep.TAKEN_OVER, holder=driver.holder, before=lease.driver.holder, silent=silent)
        self.take(run.id, driver)

    def hold(self, run_id: str) -> None:
        """Raises HeldError `taken` where the lease is not the one taken here."""
        lease = self.of(run_id)
        if lease is None:
            if self._db.row("run", id=run_id)["finished_at"] is not None:
                raise has_ended(run_id, HeldError, "taken")
            hint = f"take it up with: archloom resume {run_id}"
            raise HeldError(f"run {run_id} is not driven from here any more", hint=hint, code="taken")
        if lease.driver.token != self._ours.get(run_id):
            hint = f"watch it with: archloom attach {run_id}"
            raise HeldError(f"run {run_id} was taken over by {lease.driver.holder}", hint=hint, code="taken")

    def beat(self, run_id: str) -> None:
        self._db.do("beat", run_id=run_id, at=self._clock())

    def end(self, run_id: str) -> None:
        self._db.do("end_lease", run_id=run_id)
