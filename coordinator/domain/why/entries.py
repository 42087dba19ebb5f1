"""The entries of a timeline."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TimelineKind(StrEnum):
    """`error`: of an attempt or a push; `end`: of the job."""

    NOTE = "note"
    WAIT = "wait"
    PHASE = "phase"
    STEP = "step"
    ERROR = "error"
    END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`at` is in epoch seconds; entries of two runs are paired by `name`; `seconds` is None for an entry that has no
    duration or is not over."""

    at: float
    kind: TimelineKind
    name: str
    text: str
    seconds: float | None = None
    cached: bool = False


@dataclass(slots=True)
class Draft:
    """An entry that may still be open."""

    at: float
    kind: TimelineKind
    name: str
    text: str
    seconds: float | None = None
    cached: bool = False

    def close(self, at: float) -> None:
        self.seconds = max(0.0, at - self.at)

    def entry(self) -> Entry:
        return Entry(
            at=self.at, kind=self.kind, name=self.name, text=self.text, seconds=self.seconds, cached=self.cached
        )
