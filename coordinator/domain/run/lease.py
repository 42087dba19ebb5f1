"""Who drives a run, and when another coordinator may take its place."""

from __future__ import annotations

from dataclasses import dataclass

BEAT_S = 10.0
STALE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """One process driving one run. `token` is random and new for every driving; `holder` is `user@machine`.

    `pid` and `started`, the process's start time as the kernel has it, name one process of `boot_id`, which names the
    machine, its boot and whatever else a pid is counted in.
    """

    token: str
    holder: str
    pid: int
    started: str
    boot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A driver has the run; `beat_at` is when it last said so, in epoch seconds."""

    driver: Driver
    beat_at: float

    def is_stale(self, now: float, alive: bool | None) -> bool:  # noqa: FBT001 - what is known, not a switch
        """Whether another may take the run. `alive` is whether the driver's process lives, None where nobody can tell.

        A process that lives is not dead because it is slow; one that is gone needs no waiting for. Only where nobody
        can tell does the heartbeat decide. One from the future tells as little as an old one: the clock was set back,
        and whoever lives beats again within BEAT_S.
        """
        if alive is not None:
            return not alive
        return abs(now - self.beat_at) > STALE_S
