"""Lines for the user about a registry that does not answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

# When to tell, in seconds since the request.
_TOLD_AFTER_S = (3.0, 10.0, 30.0, 60.0, 120.0)


class Silence:
    """Tells of one registry's silence, once for all requests that wait at the same time."""

    def __init__(self, registry: str, tell: Callable[[str], None]) -> None:
        self._registry = registry
        self._tell = tell
        self._waiting = 0
        self._timers: list[asyncio.TimerHandle] = []

    @contextlib.contextmanager
    def watched(self, doing: str) -> Iterator[None]:
        """Tell while the block, one request, has no answer: after 3 s, and now and then after that."""
        if not self._waiting:
            loop = asyncio.get_running_loop()
            self._timers = [loop.call_later(seconds, self._silent, doing, seconds) for seconds in _TOLD_AFTER_S]
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                for timer in self._timers:
                    timer.cancel()

    def pausing(self, message: str, seconds: float) -> None:
        """Tell of a failed try before the pause until the next one."""
        self._tell(f"registry {self._registry}: {message}; trying again in {max(1.0, seconds):.0f} s")

    def _silent(self, doing: str, seconds: float) -> None:
        self._tell(f"registry {self._registry} has not answered for {seconds:.0f} s: {doing}")
