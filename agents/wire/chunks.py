"""A byte stream of unknown length, in pieces: each follows a line with its length in hex; the line `0` ends the stream.

A stream that ends without the `0` was cut off, whatever the bytes before look like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from agents.base.errors import AgentError

LARGEST = 1 << 20
_LENGTH = re.compile(rb"[0-9a-f]{1,6}\n\Z")


def send(stream: BinaryIO, data: bytes) -> None:
    """Write one piece of 1 to `LARGEST` bytes. Raises BrokenPipeError where the reader is gone."""
    stream.write(b"%x\n" % len(data))
    stream.write(data)


def end(stream: BinaryIO) -> None:
    """Write the end mark: the stream is complete."""
    stream.write(b"0\n")
    stream.flush()


def receive(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the pieces up to the end mark.

    Raises AgentError `cut` where the end mark is missing, `bad_request` where a length is malformed.
    """
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
