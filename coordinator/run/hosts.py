"""The hosts of a run as they are now: while it runs, hosts go away, come back and join."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING

from coordinator.domain.image.platforms import Platform
from coordinator.domain.placement.candidates import Candidates
from coordinator.domain.placement.schedule import Candidate

if TYPE_CHECKING:
    from coordinator.domain.hosts.facts import Builder
    from coordinator.farm.farm import Farm

# How long a host is away before another host begins what it has.
_HEDGE_AFTER_S = 5.0


class RunHosts:
    """The hosts that may take the jobs of a run: `chosen` are those of its plan. `farm` is None where it needs none."""

    def __init__(self, chosen: Candidates, farm: Farm | None) -> None:
        self._by_platform = {platform: tuple(hosts) for platform, hosts in chosen.by_platform.items()}
        self._builders = dict(chosen.builders)
        self._farm = farm
        self._silent: set[tuple[str, int]] = set()

    @property
    def builders(self) -> Mapping[tuple[Platform, str], Builder]:
        """The builder that each host's engine uses for each platform."""
        return self._builders

    @property
    def candidates(self) -> Mapping[Platform, Sequence[Candidate]]:
        """The hosts for each platform, best first, without those that have been away for too long."""
        gone = self._farm.absences.gone() if self._farm else frozenset()
        return {
            platform: [candidate for candidate in hosts if candidate.host not in gone]
            for platform, hosts in self._by_platform.items()
        }

    @property
    def slots(self) -> Mapping[str, int]:
        """How many jobs each host that answered the probe may run for us at once."""
        return self._farm.slots if self._farm else {}

    @property
    def away(self) -> Collection[str]:
        """The hosts that do not answer now, or whose engines or disks do not."""
        return self._farm.absences.away() | self._silent_hosts if self._farm else ()

    @property
    def long_away(self) -> Collection[str]:
        """The hosts that have not answered for so long that another host may begin what they have."""
        return self._farm.absences.away(_HEDGE_AFTER_S) | self._silent_hosts if self._farm else ()

    @property
    def awaited(self) -> Collection[str]:
        """The hosts that are away, and waited for."""
        return self._farm.absences.away() - self._farm.absences.gone() if self._farm else ()

    @property
    def _silent_hosts(self) -> frozenset[str]:
        return frozenset(host for host, _ in self._silent)

    def mark_silent(self, host: str, attempt_id: int, *, silent: bool) -> None:
        """Record whether an attempt on a host that is reached gets no answer from its engine or its disk."""
        if self._farm and silent != ((host, attempt_id) in self._silent):
            (self._silent.add if silent else self._silent.discard)((host, attempt_id))
            self._farm.changed.set()

    def join(self, chosen: Candidates) -> set[str]:
        """Add what a later plan has found; return the names of the hosts that are new."""
        before = {candidate.host for hosts in self._by_platform.values() for candidate in hosts}
        for platform, hosts in chosen.by_platform.items():
            known = self._by_platform.get(platform, ())
            both = (*known, *(host for host in hosts if host not in known))
            # A board that joins an emulator is the better one for the jobs that wait.
            self._by_platform[platform] = tuple(sorted(both, key=lambda host: host.mode.rank))
        self._builders |= chosen.builders
        if self._farm:
            self._farm.changed.set()
        return {candidate.host for hosts in chosen.by_platform.values() for candidate in hosts} - before

    def change(self) -> Coroutine[object, object, None]:
        """Return what ends when a host has gone away, come back or joined, or has been away for long enough to matter.

        What happens from this call on counts, also before the answer is awaited.
        """
        if self._farm is None:
            return _never()
        return _change(self._farm.changed, self._farm.absences.next_moment(_HEDGE_AFTER_S))


async def _never() -> None:
    await asyncio.get_running_loop().create_future()


async def _change(changed: asyncio.Event, moment: float | None) -> None:
    """Return when `changed` is set, at this moment of the event loop's time at the latest."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(moment):
            await changed.wait()
    changed.clear()
