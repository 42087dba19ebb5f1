"""What a process said last on stderr, for the message that tells of its end."""

from __future__ import annotations

from collections import deque

from coordinator.hosts.agent.transport import Reader

_LAST_LINES = 20
_LONGEST_LINE = 4096
_READ = 65536


async def last_words(stderr: Reader) -> str:
    """The last lines, once all is said; memory is bounded whatever it writes."""
    lines: deque[bytes] = deque(maxlen=_LAST_LINES)
    rest = b""
    while data := await stderr.read(_READ):
        *whole, rest = (rest + data).split(b"\n")
        lines.extend(line[:_LONGEST_LINE] for line in whole)
        rest = rest[-_LONGEST_LINE:]
    return b"\n".join([*lines, rest]).decode("utf-8", "replace").strip()
