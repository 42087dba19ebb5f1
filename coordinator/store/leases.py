"""The leases of runs: take, take over, check, renew and end them. A run has at most one driver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Protocol

from coordinator.domain.run.history import HistoryEntry, RunChange
from coordinator.domain.run.lease import Driver, Lease
from coordinator.domain.run.model import Run
from coordinator.errors import ArchloomError, DrivenElsewhereError, UsageError
from coordinator.store import rows
from coordinator.store.database import Database


def has_ended(run_id: str, kind: type[ArchloomError], code: str) -> ArchloomError:
    """Return the error for an operation that a run which has ended does not allow."""
    return kind(f"run {run_id} has ended already", hint=f"see how: archloom why {run_id}", code=code)


class Tell(Protocol):
    """Stores an event of a run, in the current transaction."""

    def __call__(self, run_id: str, step: HistoryEntry, **data: str) -> None: ...


class Leases:
    """The leases of one store, and which of them this object holds. Every method runs in the caller's transaction."""

    def __init__(
        self, db: Database, clock: Callable[[], float], is_alive: Callable[[Driver], bool | None], tell: Tell
    ) -> None:
        self._db = db
        self._clock = clock
        self._is_alive = is_alive
        self._tell = tell
        # The token of each lease taken by this object, by run id. Tokens are only compared with the stored ones: after
        # a rollback, or once the lease has ended, a token matches none.
        self._ours: dict[str, str] = {}

    def of(self, run_id: str) -> Lease | None:
        return next(map(rows.lease, self._db.all("lease", run_id=run_id)), None)

    def is_driven(self, run_id: str) -> bool:
        """Return whether a driver has the run, whose lease is not stale."""
        lease = self.of(run_id)
        return lease is not None and not lease.is_stale(self._clock(), self._is_alive(lease.driver))

    def take(self, run_id: str, driver: Driver) -> None:
        self._db.do("take_lease", run_id=run_id, at=self._clock(), **asdict(driver))
        self._ours[run_id] = driver.token

    def take_over(self, run: Run, driver: Driver) -> None:
        """Take the lease of an unfinished run, also a stale one of another driver.

        Raises DrivenElsewhereError `held` where the lease of another driver is not stale, UsageError `ended` where the
        run has ended.
        """
        if run.finished_at is not None:
            raise has_ended(run.id, UsageError, "ended")
        lease, now = run.lease, self._clock()
        if lease is None or lease.driver.token == driver.token:
            self._tell(run.id, RunChange.TAKEN_UP, holder=driver.holder)
        else:
            silent = f"{max(0.0, now - lease.beat_at):.0f} s"
            if not lease.is_stale(now, self._is_alive(lease.driver)):
                raise DrivenElsewhereError(
                    f"run {run.id} is driven by {lease.driver.holder} (pid {lease.driver.pid}), "
                    f"last heard of {silent} ago",
                    hint=f"watch it with: archloom attach {run.id}; end it with: archloom cancel {run.id}",
                    code="held",
                )
            self._tell(run.id, RunChange.TAKEN_OVER, holder=driver.holder, before=lease.driver.holder, silent=silent)
        self.take(run.id, driver)

    def hold(self, run_id: str) -> None:
        """Check that this object holds the lease. Raises DrivenElsewhereError `taken` where it does not."""
        lease = self.of(run_id)
        if lease is None:
            if self._db.row("run", id=run_id)["finished_at"] is not None:
                raise has_ended(run_id, DrivenElsewhereError, "taken")
            hint = f"resume it with: archloom resume {run_id}"
            raise DrivenElsewhereError(f"this process no longer drives run {run_id}", hint=hint, code="taken")
        if lease.driver.token != self._ours.get(run_id):
            hint = f"watch it with: archloom attach {run_id}"
            raise DrivenElsewhereError(f"run {run_id} was taken over by {lease.driver.holder}", hint=hint, code="taken")

    def beat(self, run_id: str) -> None:
        self._db.do("beat", run_id=run_id, at=self._clock())

    def end(self, run_id: str) -> None:
        self._db.do("end_lease", run_id=run_id)
