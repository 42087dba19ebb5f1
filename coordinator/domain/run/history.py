"""The committed steps of a run. Each is one line of text in the store: `str` writes it, `read` parses it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias, TypeVar

from coordinator.domain.image.platforms import Platform, parse
from coordinator.domain.run.states import AttemptEvent, AttemptState, JobEvent, JobState, TargetEvent, TargetState
from coordinator.errors import UsageError

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


class RunChange(StrEnum):
    """A step of the run as a whole: which coordinator drives it, and whether it is to be cancelled."""

    CREATED = "run created"
    TAKEN_UP = "run taken up"
    TAKEN_OVER = "run taken over"
    RELEASED = "run released"
    CANCEL_ASKED = "cancel asked"


@dataclass(frozen=True, slots=True)
class RunEnded:
    exit_code: int

    def __str__(self) -> str:
        return f"run ended {self.exit_code}"


@dataclass(frozen=True, slots=True)
class TagMoved:
    reference: str

    def __str__(self) -> str:
        return f"tag {self.reference} moved"


@dataclass(frozen=True, slots=True)
class TargetChange:
    before: TargetState
    event: TargetEvent
    after: TargetState

    def __str__(self) -> str:
        return f"target {self.before} {self.event} {self.after}"


@dataclass(frozen=True, slots=True)
class JobChange:
    """A step of a job. `after` is None where it was dropped: the job, or its pushed attempt, had ended before."""

    platform: Platform
    before: JobState
    event: JobEvent
    after: JobState | None

    def __str__(self) -> str:
        return f"job {self.platform} {_words(self.before, self.event, self.after)}"


@dataclass(frozen=True, slots=True)
class AttemptChange:
    """A step of attempt `number`, counted from 1.

    `after` is None where the step was dropped: the attempt had ended before, or had verified its job.
    """

    platform: Platform
    number: int
    before: AttemptState
    event: AttemptEvent
    after: AttemptState | None

    def __str__(self) -> str:
        return f"attempt {self.platform} {self.number} {_words(self.before, self.event, self.after)}"


HistoryEntry: TypeAlias = RunChange | RunEnded | TagMoved | TargetChange | JobChange | AttemptChange


def read(text: str) -> HistoryEntry | None:
    """Return the step that this text stands for; None for an unknown text, which another archloom version wrote."""
    try:
        return _read(text)
    except (ValueError, UsageError):
        return None


def _read(text: str) -> HistoryEntry:
    match text.split(" "):
        case ["run", "ended", code]:
            return RunEnded(int(code))
        case ["tag", reference, "moved"]:
            return TagMoved(reference)
        case ["target", before, event, after]:
            return TargetChange(TargetState(before), TargetEvent(event), TargetState(after))
        case ["job", platform, *words]:
            return JobChange(parse(platform), *_read_words(words, JobState, JobEvent))
        case ["attempt", platform, number, *words]:
            return AttemptChange(parse(platform), int(number), *_read_words(words, AttemptState, AttemptEvent))
        case _:
            return RunChange(text)


def _words(before: StrEnum, event: StrEnum, after: StrEnum | None) -> str:
    return f"{before} dropped {event}" if after is None else f"{before} {event} {after}"


def _read_words(words: list[str], states: type[S], events: type[E]) -> tuple[S, E, S | None]:
    match words:
        case [before, "dropped", event]:
            return states(before), events(event), None
        case [before, event, after]:
            return states(before), events(event), states(after)
        case _:
            raise ValueError(words)
