"""Which coordinator drives a run, and when another coordinator may take over."""

from __future__ import annotations

from dataclasses import dataclass

HEARTBEAT_S = 10.0
STALE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """One process that drives one run. `token` is random, new each time a driver begins; `holder` is `user@machine`.

    `pid` and `started`, the process's start time as the kernel reports it, identify one process within `boot_id`, which
    identifies the machine, its boot and the PID namespace.
    """

    token: str
    holder: str
    pid: int
    started: str
    boot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right of one driver to drive the run; `beat_at` is its last heartbeat, in epoch seconds."""

    driver: Driver
    beat_at: float

    def is_stale(self, now: float, alive: bool | None) -> bool:  # noqa: FBT001 - a fact, not a switch
        """Return whether another coordinator may take over. `alive`: the driver's process is alive, None if unknown.

        A live process keeps the lease however slow it is; the lease of a dead process is stale at once. The heartbeat
        decides only where `alive` is None. A heartbeat more than STALE_S in the future is stale too: the clock was set
        back, and a live driver sends another heartbeat within BEAT_S.
        """
        if alive is not None:
            return not alive
        return abs(now - self.beat_at) > STALE_S
