"""Ctrl-C: the first asks the run to stop and clean up, the second stops at once."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Set once the user asked to stop."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()

    def ask(self) -> None:
        self._asked.set()

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    async def wait(self) -> None:
        await self._asked.wait()


@contextlib.asynccontextmanager
async def interruptible(on_first: Callable[[], None], on_second: Callable[[], None]) -> AsyncIterator[Interruption]:
    """Catches SIGINT and SIGTERM while the block runs."""
    interruption = Interruption()
    loop = asyncio.get_running_loop()

    def caught() -> None:
        if interruption.asked:
            on_second()
        else:
            interruption.ask()
            on_first()

    for number in _SIGNALS:
        loop.add_signal_handler(number, caught)
    try:
        yield interruption
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
