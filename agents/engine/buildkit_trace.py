"""Decodes `moby.buildkit.trace`, BuildKit's progress messages in the engine's API: a protobuf StatusResponse.

Only the fields the log needs are read. Others are skipped, so messages of newer engines decode too. Field numbers:
https://github.com/moby/buildkit/blob/v0.12.0/api/services/control/control.proto
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Union

Value = Union[int, bytes]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_NS_PER_S = 1_000_000_000


class Vertex(NamedTuple):
    """A build step. Times are nanoseconds since the epoch; 0 means not yet."""

    digest: str
    name: str
    cached: bool
    started: int
    completed: int
    error: str


class Status(NamedTuple):
    """Progress of an operation inside a build step, such as a transfer: `current` of `total` bytes, or 0."""

    id: str
    vertex: str
    current: int
    total: int
    started: int
    completed: int


class Log(NamedTuple):
    """Output of a build step's process: any bytes, cut at any place of a line."""

    vertex: str
    timestamp: int
    data: bytes


class Trace(NamedTuple):
    """One message. A build step is repeated in later messages as it progresses."""

    vertexes: tuple[Vertex, ...]
    statuses: tuple[Status, ...]
    logs: tuple[Log, ...]


def decode(data: bytes) -> Trace:
    """Return the message in these bytes. Raises ValueError where they are not a valid message."""
    vertexes: list[Vertex] = []
    statuses: list[Status] = []
    logs: list[Log] = []
    for number, value in _fields(data):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            vertexes.append(_vertex(value))
        elif number == 2:
            statuses.append(_status(value))
        elif number == 3:
            logs.append(_log(value))
    return Trace(tuple(vertexes), tuple(statuses), tuple(logs))


def _vertex(data: bytes) -> Vertex:
    fields = dict(_fields(data))
    return Vertex(
        digest=_text(fields, 1),
        name=_text(fields, 3),
        cached=bool(fields.get(4)),
        started=_time(fields, 5),
        completed=_time(fields, 6),
        error=_text(fields, 7),
    )


def _status(data: bytes) -> Status:
    fields = dict(_fields(data))
    return Status(
        id=_text(fields, 1),
        vertex=_text(fields, 2),
        current=_number(fields, 4),
        total=_number(fields, 5),
        started=_time(fields, 7),
        completed=_time(fields, 8),
    )


def _log(data: bytes) -> Log:
    fields = dict(_fields(data))
    return Log(vertex=_text(fields, 1), timestamp=_time(fields, 2), data=_bytes(fields, 4))


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Yield (number, value) of every field in order; of a scalar field that is repeated, the last value counts."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in {_FIXED64, _FIXED32}:
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} in a trace")
        if at + size > len(data):
            raise ValueError("a trace is cut")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a trace is cut")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _text(fields: dict[int, Value], number: int) -> str:
    return _bytes(fields, number).decode("utf-8", "replace")


def _bytes(fields: dict[int, Value], number: int) -> bytes:
    value = fields.get(number, b"")
    return value if isinstance(value, bytes) else b""


def _number(fields: dict[int, Value], number: int) -> int:
    value = fields.get(number, 0)
    return value if isinstance(value, int) else 0


def _time(fields: dict[int, Value], number: int) -> int:
    """Return a google.protobuf.Timestamp in nanoseconds."""
    parts = dict(_fields(_bytes(fields, number)))
    return _number(parts, 1) * _NS_PER_S + _number(parts, 2)
