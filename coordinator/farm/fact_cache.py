"""A cache of probe outcomes in the store: earlier runs' facts for this run, and this run's facts for later runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from coordinator.domain.hosts.facts import Facts
from coordinator.domain.hosts.inventory import Host
from coordinator.domain.hosts.last_probe import CachedFacts, LastProbe, recall
from coordinator.errors import ArchloomError
from coordinator.store.sqlite import Store


class FactCache:
    """The last probe of each host, by name and address, in the store.

    Where the store fails, nothing is cached: that costs time, never a build.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._last_probes: dict[tuple[str, str], LastProbe] = {}
        with contextlib.suppress(ArchloomError):
            self._last_probes = store.probes.last()

    def known(self, host: Host) -> CachedFacts:
        """Return the outcome of the host's last probe; an empty one where it was never probed."""
        return recall(host, self._last_probes.get(_key(host)))

    def record(self, host: Host, observation: Mapping[str, object], machine: str, round_trip: float) -> Facts:
        """Store the observation of a host that has just answered; return its facts. `round_trip` is in seconds."""
        seen = LastProbe(observation=observation, seen_at=self._clock(), round_trip=round_trip, machine=machine)
        self._last_probes[_key(host)] = seen
        with contextlib.suppress(ArchloomError):
            self._store.probes.record(*_key(host), seen)
        facts = recall(host, seen).facts
        assert facts is not None  # noqa: S101 - `seen` has an observation
        return facts

    def record_silence(self, host: Host, message: str, hint: str) -> None:
        """Store that nothing answered at the host's address."""
        with contextlib.suppress(ArchloomError):
            self._store.probes.record_silence(*_key(host), message, hint)


def _key(host: Host) -> tuple[str, str]:
    return host.name, str(host.address)
