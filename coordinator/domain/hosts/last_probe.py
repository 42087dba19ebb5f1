"""What is remembered of a host from the last time it was asked, and how long that is good for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coordinator.domain.hosts.facts import Facts, read_facts
from coordinator.domain.hosts.inventory import Host

# `archloom boards` shows facts this young without asking again.
FRESH_S = 300.0
# A host that did not answer is left alone this long: it costs a run up to `connect_timeout`.
SILENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LastProbe:
    """The last look at a host, raw. Times are our epoch seconds.

    `observation` is the agent's, `None` where it never answered; `machine` names the machine and its boot.
    `silent_at` is when it did not answer, after that; `None` where the last look found it.
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
    """A sighting with its meaning. `facts` are as the host was `seen_at`; `None` where it never answered."""

    sighting: LastProbe = LastProbe()
    facts: Facts | None = None

    def is_fresh(self, now: float) -> bool:
        """Whether the host answered lately, and was in order: who has mended it looks again at once."""
        return self.facts is not None and self.facts.blocking is None and _is_within(self.age(now), FRESH_S)

    def is_silent(self, now: float) -> bool:
        """Whether the host did not answer just now, so that asking again would only cost time."""
        return self.sighting.silent_at is not None and _is_within(now - self.sighting.silent_at, SILENCE_S)

    def age(self, now: float) -> float:
        """Of the facts, in seconds."""
        return now - self.sighting.seen_at

    def silence(self, now: float) -> str:
        """What to say of a host that is left alone for now."""
        ago = now - (self.sighting.silent_at or now)
        return f"{self.sighting.message}, {ago:.0f} s ago; it is asked again in {SILENCE_S - ago:.0f} s"


def recall(host: Host, sighting: LastProbe | None) -> CachedFacts:
    """What this sighting says of the host now."""
    if sighting is None:
        return CachedFacts()
    if sighting.observation is None:
        return CachedFacts(sighting=sighting)
    facts = read_facts(host.name, sighting.observation, now=sighting.seen_at, round_trip=sighting.round_trip)
    return CachedFacts(sighting=sighting, facts=facts)


def _is_within(age: float, limit: float) -> bool:
    # A clock that was set back makes an age negative: nothing is known of it then.
    return 0.0 <= age < limit
