"""The last lines that a process wrote to stderr, for the error message about its end."""

from __future__ import annotations

from collections import deque

from coordinator.hosts.agent.transport import Reader

_MAX_LINES = 20
_MAX_LINE_BYTES = 4096
_READ_BYTES = 65536


async def stderr_tail(stderr: Reader) -> str:
    """Read stderr to its end; return its last 20 complete lines and an unfinished one, each cut to 4 KiB."""
    lines: deque[bytes] = deque(maxlen=_MAX_LINES)
    unfinished = b""
    while data := await stderr.read(_READ_BYTES):
        *finished, unfinished = (unfinished + data).split(b"\n")
        lines.extend(line[:_MAX_LINE_BYTES] for line in finished)
        unfinished = unfinished[-_MAX_LINE_BYTES:]
    return b"\n".join([*lines, unfinished]).decode("utf-8", "replace").strip()
