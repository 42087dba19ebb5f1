"""Where the parts of a YAML document stand in its text, by offset: what an edit needs that keeps all the rest."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ruamel.yaml import YAML
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamStartEvent,
)


@dataclass(frozen=True, slots=True)
class Spot:
    """A value: its text is `[start, end)`, with its anchor and without a comment behind it; the same for nothing.

    `members` are a map's, in order; `flow` is whether it is written in braces, `column` where its first key begins.
    """

    start: int
    end: int
    column: int = 0
    is_map: bool = False
    flow: bool = False
    members: tuple[Member, ...] = ()

    @property
    def is_empty(self) -> bool:
        return self.start == self.end and not self.is_map

    def member(self, name: str) -> Member | None:
        return next((member for member in self.members if member.name == name), None)


@dataclass(frozen=True, slots=True)
class Member:
    name: str
    key: Spot
    value: Spot

    @property
    def end(self) -> int:
        """Where its text ends."""
        return max(self.key.end, self.value.end)


@dataclass(frozen=True, slots=True)
class Outline:
    """A document. `end` is where more can be added: its marker of an end, or the end of the text."""

    root: Spot | None
    end: int


def outline(text: str) -> Outline:
    """The places of the one document in this text, which must be YAML that was read before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a reused anchor is legal
        events = [event for event in YAML(typ="safe", pure=True).parse(text) if not isinstance(event, StreamStartEvent)]
    root, end = None, len(text)
    stream = iter(events)
    for event in stream:
        if isinstance(event, DocumentStartEvent):
            root = _spot(next(stream), stream, event.end_mark.index)
        elif isinstance(event, DocumentEndEvent):
            end = event.start_mark.index if event.explicit else len(text)
            break
    return Outline(None if root is None or root.is_empty else root, end)


def _spot(event: Event, stream: Iterator[Event], before: int) -> Spot:
    """The value that begins with this event. `before` is where what comes before it ends."""
    start, end = event.start_mark.index, event.end_mark.index
    match event:
        case ScalarEvent(value="", style=None | "") if start == end:
            return Spot(before, before)  # it is marked where the next thing begins
        case MappingStartEvent():
            return _map(event, stream)
        case SequenceStartEvent():
            last = end
            while not isinstance(inner := next(stream), SequenceEndEvent):
                last = _spot(inner, stream, last).end
            return Spot(start, inner.end_mark.index if event.flow_style else last)
        case ScalarEvent() | AliasEvent():
            return Spot(start, end)
        case _:
            raise ValueError(f"{type(event).__name__} begins no value")


def _map(event: MappingStartEvent, stream: Iterator[Event]) -> Spot:
    members: list[Member] = []
    last = event.end_mark.index
    column = 0
    while not isinstance(inner := next(stream), MappingEndEvent):
        if not members:
            column = inner.start_mark.column
        key = _spot(inner, stream, last)
        value = _spot(next(stream), stream, key.end)
        name = str(inner.value) if isinstance(inner, ScalarEvent) else ""
        members.append(Member(name, key, value))
        last = members[-1].end
    end = inner.end_mark.index if event.flow_style else last
    return Spot(event.start_mark.index, end, column, is_map=True, flow=bool(event.flow_style), members=tuple(members))


def following(spot: Spot, name: str) -> Member | None:
    """The member of the map behind the one of this name."""
    return next((after for member, after in pairwise(spot.members) if member.name == name), None)
