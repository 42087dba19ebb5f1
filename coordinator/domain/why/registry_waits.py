"""Waits for registries, as entries of a timeline: one from the first failure to the success, and each error once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from coordinator.domain.durations import span
from coordinator.domain.run.events import Event, RegistryBack, RegistryWait
from coordinator.domain.why.entries import Draft, Entry, TimelineKind


@dataclass(slots=True)
class RegistryWaits:
    """The waits of one timeline, by registry. What `add` returns are new entries."""

    waits: dict[str, Draft] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def add(self, at: float, event: RegistryWait | RegistryBack) -> list[Draft]:
        new: list[Draft] = []
        name = event.registry
        if isinstance(event, RegistryBack):
            wait = self.waits.get(name)
            if wait is not None:
                wait.text = f"waits for registry {name}: served after {span(event.seconds)}, at try {event.tries}"
                self.close(at, name)
            return new
        if name not in self.waits:
            self.waits[name] = Draft(at, TimelineKind.WAIT, "registry", f"waits for registry {name}")
            new.append(self.waits[name])
        if self.errors.get(name) != event.text:
            self.errors[name] = event.text
            new.append(Draft(at, TimelineKind.ERROR, "registry", f"registry {name}: {event.text}"))
        return new

    def close(self, at: float, *names: str) -> None:
        """End the waits for these registries, or all of them."""
        for name in names or tuple(self.waits):
            self.waits.pop(name).close(at)
            self.errors.pop(name, None)


def run_waits(events: Iterable[tuple[float, Event]]) -> tuple[Entry, ...]:
    """Return the waits of the run as a whole, such as for the registry of its tags."""
    waits = RegistryWaits()
    drafts: list[Draft] = []
    for at, event in events:
        if isinstance(event, RegistryWait | RegistryBack) and not event.platforms:
            drafts += waits.add(at, event)
    return tuple(draft.entry() for draft in drafts)
