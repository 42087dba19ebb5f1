"""The last lines that a process wrote to stderr, for the error message about its end."""

from __future__ import annotations

from collections import deque

from coordinator.hosts.agent.transport import Reader

_MAX_LINES = 20
_MAX_LINE_BYTES = 4096
_READ_BYTES = 65536


class StderrTail:
    """The last 20 complete lines of stderr and an unfinished one, each cut to 4 KiB, as far as they have come."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque(maxlen=_MAX_LINES)
        self._unfinished = b""

    async def read(self, stderr: Reader) -> None:
        """Read stderr to its end."""
        while data := await stderr.read(_READ_BYTES):
            *finished, self._unfinished = (self._unfinished + data).split(b"\n")
            self._lines.extend(line[:_MAX_LINE_BYTES] for line in finished)
            self._unfinished = self._unfinished[-_MAX_LINE_BYTES:]

    @property
    def text(self) -> str:
        return b"\n".join([*self._lines, self._unfinished]).decode("utf-8", "replace").strip()
