"""Text offsets of the parts of a YAML document, for edits that keep all other text unchanged."""

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
    """The offsets `[start, end)` of a value, with its anchor, without a trailing comment; equal for an empty value.

    `members` are those of a map, in order. `flow`: it is written in braces. `column`: of its first key, from 0.
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
        """The offset of the end of its text."""
        return max(self.key.end, self.value.end)


@dataclass(frozen=True, slots=True)
class Outline:
    """A document. `end` is the offset for new text: the document end marker, or the end of the text."""

    root: Spot | None
    end: int


def outline(text: str) -> Outline:
    """Return the offsets of the only document in this text, which must be known to be valid YAML."""
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
    """Return the value that begins with this event. `before` is the end offset of the preceding text."""
    start, end = event.start_mark.index, event.end_mark.index
    match event:
        case ScalarEvent(value="", style=None | "") if start == end:
            return Spot(before, before)  # the parser places it at the start of the next token
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
    """Return the member of the map that follows the member of this name."""
    return next((after for member, after in pairwise(spot.members) if member.name == name), None)
