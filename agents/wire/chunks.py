"""One framing for bytes of unknown length, in both directions of a bulk channel: chunks that end with one of length 0.

Each chunk is a line with its length in hex, then that many bytes: HTTP's chunked coding (RFC 9112, section 7.1) with
`\\n` as line end, and none after the bytes. A stream without the chunk of length 0 was cut off.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from agents.base.errors import AgentError

LARGEST = 1 << 20
_LENGTH_LINE = re.compile(rb"[0-9a-f]{1,6}\n\Z")
_MAX_LINE_BYTES = 16


def send(stream: BinaryIO, data: bytes) -> None:
    """Write one chunk of 1 to `LARGEST` bytes. Raises BrokenPipeError where the reader is gone."""
    stream.write(b"%x\n" % len(data))
    stream.write(data)


def end(stream: BinaryIO) -> None:
    """Write the chunk of length 0: the bytes are complete."""
    stream.write(b"0\n")
    stream.flush()


def receive(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the bytes of each chunk up to the one of length 0.

    Raises AgentError `cut` where the stream ends before that, `bad_request` where a length is malformed.
    """
    while True:
        line = stream.readline(_MAX_LINE_BYTES)
        if not line.endswith(b"\n") and len(line) < _MAX_LINE_BYTES:
            raise cut()
        length = int(line, 16) if _LENGTH_LINE.match(line) else -1
        if not 0 <= length <= LARGEST:
            raise AgentError("bad_request", f"a chunk begins with {line!r}, expected its length, at most {LARGEST:x}")
        if not length:
            return
        data = stream.read(length)
        if len(data) < length:
            raise cut()
        yield data


def cut() -> AgentError:
    """Return AgentError `cut`: the channel ended before all that was to come."""
    return AgentError("cut", "the channel ended before all of it had come")
