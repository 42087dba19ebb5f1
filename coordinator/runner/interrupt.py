"""Ctrl-C: the first asks the run to stop and clean up, the second does not wait for that."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PRESS_S = 0.1


@contextlib.asynccontextmanager
async def interruptible(work: asyncio.Task[None], on_first: Callable[[], None]) -> AsyncIterator[None]:
    """Cancels `work` on SIGINT, SIGTERM and SIGHUP while the block runs.

    After the second one it is cancelled again and again: whatever its cleaning up waits for, it waits no longer.
    """
    loop = asyncio.get_running_loop()
    asked = False

    def caught() -> None:
        nonlocal asked
        if asked:
            press()
        else:
            asked = True
            on_first()
            work.cancel()

    def press() -> None:
        if not work.done():
            work.cancel()
            loop.call_later(_PRESS_S, press)

    for number in _SIGNALS:
        loop.add_signal_handler(number, caught)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
