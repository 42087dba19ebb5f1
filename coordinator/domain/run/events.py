"""What happens in a run, told to whoever watches: the terminal, plain lines, JSON. Watching decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from coordinator.domain.image.platforms import Mode, Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which job this is about, and where it runs: every line of a build says these three."""

    platform: Platform
    host: str
    mode: Mode


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should know; the run goes on."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """`resumed`: another coordinator had begun it. What it has already follows."""

    run: str
    tags: tuple[str, ...]
    platforms: tuple[Platform, ...]
    log_folder: str
    resumed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reused:
    """The registry already has this child: no host is touched."""

    platform: Platform
    digest: str
    pin: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """The job waits for a slot, and why."""

    platform: Platform
    reason: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """The job is not built in this run, and why."""

    platform: Platform
    reason: str


@dataclass(frozen=True, slots=True)
class Assigned:
    place: Place
    reason: str


@dataclass(frozen=True, slots=True)
class Phase:
    """`name`: `context`, `base`, `build`, `push`, `verify`; `text` is what a live view shows beside it."""

    place: Place
    name: str
    text: str = ""


# How the text of a push's phase begins that was lost, before its reason.
PUSH_LOST = "lost: "


@dataclass(frozen=True, slots=True)
class PhaseEnded:
    """The phase of this name is over and well. One that goes wrong ends with its attempt, or begins again."""

    place: Place
    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class StepLine:
    """One line of the build's own log. `step` is the step's title where the line begins or ends one, else empty."""

    place: Place
    text: str
    step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded:
    """The attempt is over, badly: `state` is failed, lost or cancelled; `tail` holds its last lines."""

    place: Place
    state: str
    code: str
    message: str
    step: str = ""
    tail: tuple[str, ...] = ()
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    place: Place
    digest: str
    pin: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TagMoved:
    reference: str
    digest: str
    previous: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """The last event of a run that was begun. `exit_code` is what the command ends with.

    `digest` is the index's where the run was published; `platforms` then says how each was built. Where it was not,
    `message` and `hint` are what the command says at its end.
    """

    run: str
    exit_code: int
    digest: str
    tags: tuple[str, ...]
    platforms: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    message: str = ""
    hint: str = ""


Event: TypeAlias = (
    Notice
    | RunStarted
    | Reused
    | Waiting
    | Skipped
    | Assigned
    | Phase
    | PhaseEnded
    | StepLine
    | AttemptEnded
    | Verified
    | TagMoved
    | RunEnded
)
# Whoever is told what happens.
Emit: TypeAlias = Callable[[Event], None]
