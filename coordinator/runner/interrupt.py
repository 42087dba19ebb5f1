"""A run as the foreground of a terminal: Ctrl-C stops it, twice without waiting; a terminal that goes away does not."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from coordinator.domain.events import Event, Notice
from coordinator.errors import ArchloomError, InterruptedRunError
from coordinator.runner.finish import Published

# How the run ended, once it has: what is left then is clean-up, and that cannot change it.
Ended: TypeAlias = list[Published | ArchloomError]

_STOP = (signal.SIGINT, signal.SIGTERM)
_PRESS_S = 0.1


async def to_the_end(
    work: Callable[[Ended], Awaitable[None]], untouched: str, emit: Callable[[Event], None]
) -> Published:
    """Does `work`, which says how its run ended. Raises that where it is an error.

    The first Ctrl-C cancels the builds on their hosts and then raises InterruptedRunError; the second does not wait.
    `untouched` says of the tags what is true before there is a run. SIGHUP leaves the run going, for whoever attaches.
    """
    ended: Ended = []
    task = asyncio.ensure_future(work(ended))

    def stopping() -> None:
        emit(Notice("stopping: builds are cancelled on their hosts; Ctrl-C again stops without waiting"))

    def left() -> None:
        emit(Notice("the terminal is gone, the run goes on"))

    async with _interruptible(task, stopping, left):
        try:
            await task
        except asyncio.CancelledError:
            if not ended:
                raise InterruptedRunError(f"interrupted; {untouched}") from None
    if isinstance(ended[0], ArchloomError):
        raise ended[0]
    return ended[0]


@contextlib.asynccontextmanager
async def _interruptible(
    work: asyncio.Future[None], on_first: Callable[[], None], on_hang_up: Callable[[], None]
) -> AsyncIterator[None]:
    """Cancels `work` on SIGINT and SIGTERM while the block runs.

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

    for number in _STOP:
        loop.add_signal_handler(number, caught)
    loop.add_signal_handler(signal.SIGHUP, on_hang_up)
    try:
        yield
    finally:
        for number in (*_STOP, signal.SIGHUP):
            loop.remove_signal_handler(number)
