"""Events as plain text, none, one or several lines each. Every line of a build has platform, host and mode."""

from __future__ import annotations

from coordinator.domain.durations import span
from coordinator.domain.image.platforms import Mode
from coordinator.domain.image.references import short
from coordinator.domain.inputs.pins import shown_pin
from coordinator.domain.run.events import (
    Assigned,
    AttemptEnded,
    Event,
    Kept,
    Notice,
    Phase,
    PhaseEnded,
    Place,
    Preparing,
    RegistryBack,
    RegistryWait,
    Reused,
    RunEnded,
    RunStarted,
    Skipped,
    StepLine,
    TagMoved,
    Verified,
    Waiting,
)
from coordinator.domain.visible import visible

_PLATFORM_WIDTH = len("linux/arm64/v9")
_MODE_WIDTH = len("emulated")


def prefix(place: Place) -> str:
    """Return `linux/arm/v7   pi4 native  `, the prefix of every line of a job."""
    return f"{place.platform!s:<{_PLATFORM_WIDTH}} {place.host} {place.mode:<{_MODE_WIDTH}} "


def lines(event: Event) -> list[str]:
    """Return the event as plain lines, without control characters and line breaks."""
    return [visible(line) for line in _lines(event)]


def _lines(event: Event) -> list[str]:
    match event:
        case Notice(text):
            return [f"note: {text}"]
        case Preparing(text):
            return [text]
        case RunStarted():
            count = len(event.platforms)
            many = "platform" if count == 1 else "platforms"
            again = " goes on" if event.resumed else ""
            return [f"run {event.run}{again}: {', '.join(event.tags)}, {count} {many}"]
        case RegistryWait():
            return [waiting(event)]
        case RegistryBack():
            tries = "try" if event.tries == 1 else "tries"
            return [f"registry {event.registry} serves again after {span(event.seconds)}, {event.tries} {tries}"]
        case TagMoved() if event.previous == event.digest:
            return [f"tag {event.reference} is {short(event.digest)} already"]
        case TagMoved():
            was = f" (was {short(event.previous)})" if event.previous else ""
            return [f"tag {event.reference} → {short(event.digest)}{was}"]
        case RunEnded():
            return [closing(event)] if event.exit_code == 0 else []
        case PhaseEnded():
            return []
        case _:
            return _of_job(event)


def _of_job(
    event: Reused | Waiting | Skipped | Assigned | Phase | StepLine | AttemptEnded | Kept | Verified,
) -> list[str]:
    match event:
        case Reused():
            return [f"{event.platform!s:<{_PLATFORM_WIDTH}} reused {short(event.digest)} ({shown_pin(event.pin)})"]
        case Waiting(platform, reason):
            return [f"{platform!s:<{_PLATFORM_WIDTH}} waits: {reason}"]
        case Skipped(platform, reason):
            return [f"{platform!s:<{_PLATFORM_WIDTH}} SKIPPED: {reason}"]
        case Assigned(place, text) | StepLine(place, text):
            return [f"{prefix(place)}{text}"]
        case Phase(place, name, text):
            return [f"{prefix(place)}{name}{': ' if text else ''}{text}"]
        case AttemptEnded():
            return _ended(event)
        case Kept(place=place, code=code, message=message):
            why = f" ({code})" if code else ""
            return [f"{prefix(place)}not published{why}: {message}; {place.host} keeps the image"]
        case Verified():
            return [f"{prefix(event.place)}verified {short(event.digest)} in {event.seconds:.1f} s"]


def waiting(event: RegistryWait) -> str:
    """Return who fails, how, since when and how often, who keeps the images meanwhile, and when the run gives up."""
    by_host: dict[str, list[str]] = {}
    for platform, host in event.kept.items():
        by_host.setdefault(host, []).append(platform)
    kept = [f"{host} keeps {', '.join(platforms)}" for host, platforms in by_host.items()]
    lasts = f"since {span(event.seconds)}, try {event.tries}" if event.seconds >= 1 else f"try {event.tries}"
    parts = [event.text, lasts, *kept, f"gives up in {span(event.left)}"]
    return f"registry {event.registry}: {'; '.join(parts)}"


def closing(event: RunEnded) -> str:
    """Return the last line of a successful run: tags, digest, platforms, emulated platforms, and seconds."""
    emulated = [name for name, mode in event.platforms.items() if mode == Mode.EMULATED]
    emulated_part = f" (emulated: {', '.join(emulated)})" if emulated else " (none emulated)"
    platforms = ", ".join(event.platforms)
    return f"published {', '.join(event.tags)} {event.digest} for {platforms}{emulated_part} in {event.seconds:.1f} s"


def why_ended(event: AttemptEnded) -> str:
    """Return `: message`, to follow the state; empty where the message only repeats the state."""
    return f": {event.message}" if event.message not in ("", event.state) else ""


def _ended(event: AttemptEnded) -> list[str]:
    at = f" at {event.step}" if event.step else ""
    code = f" ({event.code})" if event.code else ""
    again = "; trying again" if event.again else ""
    head = f"{prefix(event.place)}{event.state.upper()}{code}{at}{why_ended(event)}{again}"
    if not event.tail:
        return [head]
    count = len(event.tail)
    return [head, "  last line:" if count == 1 else f"  last {count} lines:", *(f"  | {line}" for line in event.tail)]
