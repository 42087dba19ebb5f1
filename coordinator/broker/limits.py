"""How much of the coordinator the peers of the broker may use: anybody on a board can connect to the tunnel there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TypeVar

from coordinator import deadlines

T = TypeVar("T")

_STRANGERS = 64
# An engine with containerd's store pushes all layers at once: at most 127 (the most that overlayfs mounts).
CONNECTIONS_OF_A_JOB = 256
REQUESTS_AT_A_TIME = 64
_KEPT = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`head`: seconds in which a stranger's request must arrive. `strangers`: connections that are not authenticated.

    `connections` are those that one job has at a time.
    """

    head: float = deadlines.STRANGER
    strangers: int = _STRANGERS
    connections: int = CONNECTIONS_OF_A_JOB


@dataclass(slots=True, eq=False)
class Guest:
    """A connection. It is a stranger until it has sent the secret of a job."""

    limit: asyncio.Timeout
    job: str = ""


@dataclass(slots=True)
class Guests:
    """The open connections. Beyond the limit of strangers the oldest one's is closed: an engine is none for long."""

    limits: Limits
    _strangers: dict[Guest, None] = field(default_factory=dict)
    _of_jobs: dict[str, int] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def entered(self) -> AsyncIterator[Guest]:
        """Yield a new guest, a stranger. Raises TimeoutError where it has to make room for others."""
        async with asyncio.timeout(None) as limit:
            guest = Guest(limit)
            self._strangers[guest] = None
            while len(self._strangers) > self.limits.strangers:
                oldest = next(iter(self._strangers))
                del self._strangers[oldest]
                oldest.limit.reschedule(asyncio.get_running_loop().time())
            try:
                yield guest
            finally:
                self._strangers.pop(guest, None)
                self._leave(guest)

    def authenticated(self, guest: Guest, job: str) -> bool:
        """Record that the guest has sent the secret of this job; return False where the job has too many of them."""
        self._strangers.pop(guest, None)
        if guest.job == job:
            return True
        self._leave(guest)
        if self._of_jobs.get(job, 0) >= self.limits.connections:
            return False
        guest.job = job
        self._of_jobs[job] = self._of_jobs.get(job, 0) + 1
        return True

    def _leave(self, guest: Guest) -> None:
        if guest.job:
            self._of_jobs[guest.job] -= 1
            if not self._of_jobs[guest.job]:
                del self._of_jobs[guest.job]
            guest.job = ""


def keep_newest(entries: dict[str, T], most: int = _KEPT) -> None:
    """Delete the oldest entries beyond `most`: what a job has begun and never ended."""
    while len(entries) > most:
        del entries[next(iter(entries))]
