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
from agents.context.transfer import Received, Say
from agents.wire import chunks

_OPENING = ("root", "entries", "bytes")


def receive_enclosed(job: Path, key: str, fields: dict[str, Any], say: Say, objects: Objects) -> Received:
    """Receive the offered context as `receive` does. `fields` are those of the request: the offer, and `objects`.

    `say` gets the questions, which the objects in the request answer. Raises AgentError `bad_request` for an object
    that is asked for and not in the request, and what `receive` raises.
    """
    enclosed = _Enclosed(fields, say)
    return receive(job, key, enclosed.stream, enclosed.answer, objects)


class _Enclosed:
    """The coordinator's side of a transfer: `answer` appends to `stream` what a question asks for."""

    def __init__(self, fields: dict[str, Any], say: Say) -> None:
        self._objects = field(fields, "objects", dict)
        self._say = say
        self.stream = io.BytesIO(json.dumps({name: fields.get(name) for name in _OPENING}).encode() + b"\n")

    def answer(self, question: dict[str, object]) -> None:
        self._say(question)
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
