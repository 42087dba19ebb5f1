"""The events of a run, for display: live terminal, plain lines, JSON. They do not influence the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from coordinator.domain.image.platforms import Mode, Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The platform of a job, and the host and mode that it runs in: every line about a build shows these three."""

    platform: Platform
    host: str
    mode: Mode


@dataclass(frozen=True, slots=True)
class Notice:
    """A message for the user; the run continues."""

    text: str


@dataclass(frozen=True, slots=True)
class Preparing:
    """What a command does before its run begins: the first line, shown while the rest of archloom is imported."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """`resumed`: another coordinator had begun the run. Events for what it already has follow."""

    run: str
    tags: tuple[str, ...]
    platforms: tuple[Platform, ...]
    log_folder: str
    resumed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reused:
    """The registry already has this child: no host is used."""

    platform: Platform
    digest: str
    pin: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """The job waits for a slot; `reason` says why."""

    platform: Platform
    reason: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """The job is not built in this run; `reason` says why."""

    platform: Platform
    reason: str


@dataclass(frozen=True, slots=True)
class Assigned:
    place: Place
    reason: str


@dataclass(frozen=True, slots=True)
class Phase:
    """`name`: `context`, `base`, `build`, `push`, `verify`, `connection lost`; a live view shows `text` beside it."""

    place: Place
    name: str
    text: str = ""


# Prefix of `Phase.text` where a push was lost; the reason follows.
PUSH_LOST = "lost: "
# `Phase.name` while the host of an attempt does not answer.
CONNECTION_LOST = "connection lost"
# `Phase.name` while the host is reached, and its engine, its disk or a transfer stands still.
NO_ANSWER = "no answer"
# Prefix of `Phase.text` while a context is sent; how far follows.
SENT_SO_FAR = "sent "


@dataclass(frozen=True, slots=True)
class PhaseEnded:
    """The phase of this name has succeeded; `build` also where the job has failed, which an AttemptEnded tells.

    Any other phase that fails ends with its attempt, or begins again.
    """

    place: Place
    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class StepLine:
    """One line of the build log. `step` is the step's title where the line begins or ends a step, else empty."""

    place: Place
    text: str
    step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded:
    """The attempt ended badly: `state` is failed, lost or cancelled; `tail` holds the last lines of its log."""

    place: Place
    state: str
    code: str
    message: str
    step: str = ""
    tail: tuple[str, ...] = ()
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The job ends without its image, which its host has built and keeps; `code` and `message` say why."""

    place: Place
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    place: Place
    digest: str
    pin: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryWait:
    """A registry fails for `seconds` so far, and the run waits for it. `text` is what failed last.

    The run has tried `tries` times, and gives up in `left` seconds. `platforms` are those that wait: empty where the
    whole run does. `kept` has the hosts that keep a platform's built image meanwhile, by platform.
    """

    registry: str
    text: str
    seconds: float
    tries: int
    left: float
    platforms: tuple[Platform, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryBack:
    """What had failed at a registry succeeded after `seconds`, at try number `tries`."""

    registry: str
    seconds: float
    tries: int
    platforms: tuple[Platform, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TagMoved:
    reference: str
    digest: str
    previous: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """The last event of a run that was begun. `exit_code` is the exit code of the command.

    `digest` is the digest of the index where the run was published; `platforms` then says how each platform was built.
    Where the run was not published, `message` and `hint` are what the command prints at its end.
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
    | Preparing
    | RunStarted
    | Reused
    | Waiting
    | Skipped
    | Assigned
    | Phase
    | PhaseEnded
    | StepLine
    | AttemptEnded
    | Kept
    | Verified
    | RegistryWait
    | RegistryBack
    | TagMoved
    | RunEnded
)
# Receives every event of a run.
Emit: TypeAlias = Callable[[Event], None]
