"""Lines for the user about a registry that does not answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

# When to tell, in seconds since the registry's last answer.
_TOLD_AFTER_S = (3.0, 10.0, 30.0, 60.0, 90.0)
# A slow line may take seconds for one piece of a body.
_MOVING_S = 10.0
_PAUSES_TOLD_EVERY_S = 10.0


class Silence:
    """Tells of one registry's silence, once for all requests that wait at the same time."""

    def __init__(self, registry: str, tell: Callable[[str], None]) -> None:
        self._registry = registry
        self._tell = tell
        # What the open requests do, the oldest first, and after how many seconds the first line is due.
        self._open: dict[object, tuple[str, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._paused_at = -_PAUSES_TOLD_EVERY_S

    @contextlib.contextmanager
    def watched(self, doing: str, *, moves: bool = False) -> Iterator[Callable[[], None]]:
        """Tell while the block, one request, has no answer: after 3 s without any answer, and now and then after that.

        An error that leaves the block is no answer. `moves`: it has a body. The first line then comes after 10 s, and
        what is yielded is called for each piece of the body, which counts as an answer.
        """
        request = object()
        self._open[request] = (doing, _MOVING_S if moves else _TOLD_AFTER_S[0])
        if self._timer is None:
            self._wait(0)
        is_answered = False
        try:
            yield lambda: self._wait(0)
            is_answered = True
        finally:
            del self._open[request]
            if is_answered or not self._open:
                self._wait(0)

    def pausing(self, message: str, seconds: float) -> None:
        """Tell of a failed try before the pause until the next one; once in 10 s for all requests."""
        now = asyncio.get_running_loop().time()
        if now - self._paused_at >= _PAUSES_TOLD_EVERY_S:
            self._paused_at = now
            self._tell(f"registry {self._registry}: {message}; trying again in {max(1.0, seconds):.0f} s")

    def _wait(self, lines: int) -> None:
        """Wait for the next line, after so many `lines` of the same silence; end where no request is open."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._open and lines < len(_TOLD_AFTER_S):
            before = _TOLD_AFTER_S[lines - 1] if lines else 0.0
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_TOLD_AFTER_S[lines] - before, self._silent, lines)

    def _silent(self, lines: int) -> None:
        due = [doing for doing, first in self._open.values() if first <= _TOLD_AFTER_S[lines]]
        if not due:
            self._wait(lines + 1)
            return
        doing = due[0]
        self._tell(f"registry {self._registry} has not answered for {_TOLD_AFTER_S[lines]:.0f} s (request: {doing})")
        self._wait(lines + 1)
