"""Frames of the control channel: one JSON object per line, UTF-8, at most 1 MiB."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

from agents.base.errors import AgentError
from agents.base.fields import field, mapping

PROTOCOL = 1
LARGEST = 1 << 20
# A login shell may print before the agent does, without ending its line. The agent's output begins with this mark.
MARK = b"archloom-agent "


class Request(NamedTuple):
    """A request of the coordinator. Each operation checks its own `parameters`."""

    id: int
    op: str
    parameters: dict[str, Any]


def parse(line: bytes) -> Request:
    """Parse a line as a request. Raises AgentError `bad_request`."""
    try:
        fields = mapping(json.loads(line), "request")
    except ValueError as error:
        raise AgentError("bad_request", f"a request is not JSON: {error}") from error
    number, op = field(fields, "id", int), field(fields, "op", str)
    return Request(number, op, {name: value for name, value in fields.items() if name not in {"id", "op"}})


def requests(stream: BinaryIO, on_malformed: Callable[[AgentError], None]) -> Iterator[Request]:
    """Yield the requests until the stream ends; call `on_malformed` for a line that is not a request.

    Memory holds at most one frame, however long a line is.
    """
    while True:
        line = stream.readline(LARGEST)
        if not line:
            return
        if not line.endswith(b"\n"):
            if _skip_line(stream):
                on_malformed(AgentError("bad_request", f"a request is longer than {LARGEST} bytes"))
            continue
        try:
            request = parse(line)
        except AgentError as error:
            on_malformed(error)
            continue
        yield request


def _skip_line(stream: BinaryIO) -> bool:
    """Skip to the end of the line. Return False where the stream ends inside the line."""
    while True:
        rest = stream.readline(LARGEST)
        if rest.endswith(b"\n"):
            return True
        if not rest:
            return False


def failure(error: AgentError) -> dict[str, object]:
    """Return the `error` member of a frame."""
    return {"error": {"code": error.code, "message": error.message, **error.detail}}


class Replies:
    """Writes frames to the coordinator. Threads may share it: frames are not interleaved."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def greet(self, facts: dict[str, object]) -> None:
        """Write the line that begins with the mark: output of a login shell ends, and the agent's begins."""
        self._write(b"\n" + MARK + json.dumps(facts).encode() + b"\n")

    def send(self, number: int | None, body: dict[str, object]) -> None:
        """Write one frame. `number` is the request's id; None where it could not be parsed.

        Raises BrokenPipeError where the reader is gone.
        """
        self._write(json.dumps({"id": number, **body}).encode() + b"\n")

    def beat(self) -> None:
        """Write an empty line, which stands for nothing: a sign of life before a line with the mark."""
        self._write(b"\n")

    def _write(self, data: bytes) -> None:
        with self._lock:
            self._stream.write(data)
            self._stream.flush()
