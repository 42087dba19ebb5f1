"""Waits for registries, as entries of a timeline: one from the first failure to the success."""

from __future__ import annotations

from collections.abc import Iterable

from coordinator.domain.run.events import Event, RegistryBack, RegistryWait
from coordinator.domain.why.entries import Draft, Entry, TimelineKind


def wait_text(event: RegistryWait | RegistryBack, before: str) -> str:
    """Return the text of a wait after this event; `before` is its text until then."""
    if isinstance(event, RegistryBack):
        return f"{before}; it served at try {event.tries}"
    return f"waits for registry {event.registry}: {event.text}"


def run_waits(events: Iterable[tuple[float, Event]]) -> tuple[Entry, ...]:
    """Return the waits of the run as a whole, such as for the registry of its tags."""
    drafts: list[Draft] = []
    open_waits: dict[str, Draft] = {}
    for at, event in events:
        if isinstance(event, RegistryWait | RegistryBack) and not event.platforms:
            wait = open_waits.get(event.registry)
            if wait is None and isinstance(event, RegistryWait):
                wait = open_waits[event.registry] = Draft(at, TimelineKind.WAIT, "registry", "")
                drafts.append(wait)
            if wait is None:
                continue
            wait.text = wait_text(event, wait.text)
            wait.close(at)
            if isinstance(event, RegistryBack):
                del open_waits[event.registry]
    return tuple(draft.entry() for draft in drafts)
