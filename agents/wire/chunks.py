"""Raw bytes whose length nobody knows before, in pieces: each after a line with its length in hex, `0` after the last.

An end without the `0` is a cut, whatever the bytes before it look like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from agents.base.errors import AgentError

LARGEST = 1 << 20
_LENGTH = re.compile(rb"[0-9a-f]{1,6}\n\Z")


def send(stream: BinaryIO, data: bytes) -> None:
    """One piece, not empty and at most `LARGEST` bytes. Raises BrokenPipeError when nobody listens."""
    stream.write(b"%x\n" % len(data))
    stream.write(data)


def end(stream: BinaryIO) -> None:
    """The word that everything was sent."""
    stream.write(b"0\n")
    stream.flush()


def receive(stream: BinaryIO) -> Iterator[bytes]:
    """The pieces, up to the word that ends them. Raises AgentError `cut` without it, and `bad_request`."""
    while True:
        line = stream.readline(16)
        if not line.endswith(b"\n"):
            raise _cut() if len(line) < 16 else _odd(line)
        if not _LENGTH.match(line) or int(line, 16) > LARGEST:
            raise _odd(line)
        length = int(line, 16)
        if not length:
            return
        data = stream.read(length)
        if len(data) < length:
            raise _cut()
        yield data


def _cut() -> AgentError:
    return AgentError("cut", "the archive ended before its end was told")


def _odd(line: bytes) -> AgentError:
    return AgentError("bad_request", f"a piece begins with {line!r}, expected its length in hex, {LARGEST:x} at most")
