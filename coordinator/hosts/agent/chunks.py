"""One framing for bytes of unknown length on bulk channels. See `agents/README.md`, "Chunks"."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator

from coordinator.hosts.agent import error_codes, replies
from coordinator.hosts.agent.frames import Incoming

LARGEST = 1 << 20
END = b"0\n"
_LENGTH = re.compile(rb"[0-9a-f]{1,6}\Z")
_MAX_LENGTH_DIGITS = 6
_READ_BYTES = 1 << 18


def encode(data: bytes) -> Iterator[bytes]:
    """Yield the chunks of these bytes: in turns a line with a length, and so many bytes. `END` follows the last."""
    for start in range(0, len(data), LARGEST):
        chunk = data[start : start + LARGEST]
        yield b"%x\n" % len(chunk)
        yield chunk


async def receive(incoming: Incoming, host: str, op: str) -> AsyncGenerator[bytes]:
    """Yield the bytes of the chunks, as they come, up to the chunk of length 0.

    Raises EOFError where the stream ends before that, the agent's error as `error_codes.outcome` does where one takes
    the place of a chunk, and LostError `protocol` where a length is malformed.
    """
    while True:
        line = await incoming.line(_MAX_LENGTH_DIGITS)
        if line is None:
            raise EOFError
        if not line:
            # An empty line in place of a length: the next line is the agent's error.
            answer = await incoming.greeting()
            if answer is None:
                raise EOFError
            error_codes.outcome(host, op, answer)
            raise replies.unexpected(host, "chunks without their end")
        remaining = int(line, 16) if _LENGTH.match(line) else -1
        if not 0 <= remaining <= LARGEST:
            raise replies.unexpected(host, f"a chunk begins with {line!r}")
        if not remaining:
            return
        while remaining:
            data = await incoming.some(min(remaining, _READ_BYTES))
            if not data:
                raise EOFError
            remaining -= len(data)
            yield data
