"""Receive a small context that came in one request of the control channel, with every object."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agents.base.errors import AgentError
from agents.base.fields import field
from agents.context.cache import Objects
from agents.context.receive import receive
from agents.context.transfer import Received
from agents.wire import chunks

_OPENING = ("root", "entries", "bytes")


def receive_enclosed(job: Path, key: str, fields: dict[str, Any], objects: Objects) -> Received:
    """Receive the offered context as `receive` does. `fields` are those of the request: the offer, and `objects`.

    Raises AgentError `bad_request` for an object that the host lacks and the request has not, and what `receive`
    raises.
    """
    enclosed = _Enclosed(fields)
    return receive(job, key, enclosed.stream, enclosed.say, objects)


class _Enclosed:
    """The coordinator's side of a transfer: `say` gets a question, and appends to `stream` what that asks for."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._objects = field(fields, "objects", dict)
        self.stream = io.BytesIO(json.dumps({name: fields.get(name) for name in _OPENING}).encode() + b"\n")

    def say(self, question: dict[str, object]) -> None:
        for digest in field(question, "digests", list):
            with self._appending():
                self.stream.write(b"z")
                chunks.send(self.stream, self._packed(digest))
                chunks.end(self.stream)

    def _packed(self, digest: str) -> bytes:
        try:
            return base64.b64decode(self._objects[digest], validate=True)
        except (KeyError, TypeError, ValueError) as error:
            raise AgentError("bad_request", f"the request has no object {digest}") from error

    @contextmanager
    def _appending(self) -> Iterator[None]:
        unread = self.stream.tell()
        self.stream.seek(0, io.SEEK_END)
        yield
        self.stream.seek(unread)
