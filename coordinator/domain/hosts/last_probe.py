"""The stored result of a host's last probe, and how long it is valid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordinator.domain.hosts.facts import Facts
    from coordinator.domain.hosts.inventory import Host

# `archloom boards` shows facts up to this age without a new probe.
FRESH_S = 300.0
# A host that did not answer is not probed again for this long: a probe costs a run up to `connect_timeout`.
SILENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LastProbe:
    """The last probe of a host, raw. Times are epoch seconds by the coordinator's clock; `round_trip` is in seconds.

    `observation` is the agent's, `None` where the host never answered; `machine` identifies the machine and its boot.
    `silent_at` is the time of a later probe without an answer, `None` where the last probe was answered.
    """

    observation: Mapping[str, object] | None = None
    seen_at: float = 0.0
    round_trip: float = 0.0
    machine: str = ""
    silent_at: float | None = None
    message: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedFacts:
    """A stored probe and its facts. `facts` are as of `seen_at`, `None` where the host never answered."""

    last_probe: LastProbe = LastProbe()
    facts: Facts | None = None

    def is_fresh(self, now: float) -> bool:
        """Return whether the facts are recent and have no blocking problem: a repaired host is probed again at once."""
        return self.facts is not None and self.facts.blocking is None and _is_within(self.age(now), FRESH_S)

    def is_silent(self, now: float) -> bool:
        """Return whether the host recently failed to answer, so that another probe would only cost time."""
        return self.last_probe.silent_at is not None and _is_within(now - self.last_probe.silent_at, SILENCE_S)

    def age(self, now: float) -> float:
        """Return the age of the facts in seconds."""
        return now - self.last_probe.seen_at

    def silence(self, now: float) -> str:
        """Return the message for a host that is not probed for now."""
        ago = now - (self.last_probe.silent_at or now)
        return f"{self.last_probe.message}, {ago:.0f} s ago; it is asked again in {SILENCE_S - ago:.0f} s"


def recall(host: Host, last_probe: LastProbe | None) -> CachedFacts:
    """Return a stored probe with its facts; empty without a stored probe."""
    if last_probe is None:
        return CachedFacts()
    if last_probe.observation is None:
        return CachedFacts(last_probe=last_probe)
    from coordinator.domain.hosts.facts import read_facts

    facts = read_facts(
        host.name,
        last_probe.observation,
        now=last_probe.seen_at,
        round_trip=last_probe.round_trip,
        is_local=host.address.is_local,
    )
    return CachedFacts(last_probe=last_probe, facts=facts)


def _is_within(age: float, limit: float) -> bool:
    # A clock that was set back gives a negative age, so the true age is unknown.
    return 0.0 <= age < limit
