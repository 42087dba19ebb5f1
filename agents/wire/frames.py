"""Frames of the control channel: one JSON object a line, UTF-8, at most 1 MiB."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from agents.base.errors import AgentError
from agents.base.fields import field, mapping

PROTOCOL = 1
LARGEST = 1 << 20
# A login shell may print before us, and without ending its line; only what follows this mark is ours.
MARK = b"archloom-agent "


class Request(NamedTuple):
    """What the coordinator asks. `parameters` are checked by the operation they are for."""

    id: int
    op: str
    parameters: dict[str, Any]


def parse(line: bytes) -> Request:
    """The request in this line. Raises AgentError `bad_request`."""
    try:
        fields = mapping(json.loads(line), "request")
    except ValueError as error:
        raise AgentError("bad_request", f"a request is not JSON: {error}") from error
    number, op = field(fields, "id", int), field(fields, "op", str)
    return Request(number, op, {name: value for name, value in fields.items() if name not in {"id", "op"}})


def requests(stream: BinaryIO) -> Iterator[Request | AgentError]:
    """The requests until the end of the stream; a line that is none is given as the error it is.

    No more than one frame is held in memory, however long a line goes on.
    """
    while True:
        line = stream.readline(LARGEST)
        if not line:
            return
        if not line.endswith(b"\n"):
            if _skip_line(stream):
                yield AgentError("bad_request", f"a request is longer than {LARGEST} bytes")
            continue
        try:
            yield parse(line)
        except AgentError as error:
            yield error


def _skip_line(stream: BinaryIO) -> bool:
    """Whether the rest of the line was there to skip: false where the stream ended inside it."""
    while True:
        rest = stream.readline(LARGEST)
        if rest.endswith(b"\n"):
            return True
        if not rest:
            return False


def failure(error: AgentError) -> dict[str, object]:
    """The `error` member of a frame."""
    return {"error": {"code": error.code, "message": error.message, **error.detail}}


class Replies:
    """The frames to the coordinator. Threads may share it: a frame is written whole or not at all."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def greet(self, facts: dict[str, object]) -> None:
        """The line that says where noise ends and frames begin."""
        self._write(b"\n" + MARK + json.dumps(facts).encode() + b"\n")

    def send(self, number: int | None, body: dict[str, object]) -> None:
        """One frame. `number` is None where a request could not be read. Raises BrokenPipeError when nobody listens."""
        self._write(json.dumps({"id": number, **body}).encode() + b"\n")

    def _write(self, data: bytes) -> None:
        with self._lock:
            self._stream.write(data)
            self._stream.flush()
