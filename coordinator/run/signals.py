"""A run as the foreground of a terminal: Ctrl-C stops it, twice without waiting; a terminal that goes away does not."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

from coordinator.domain.run.events import Emit, Notice
from coordinator.errors import ArchloomError, InterruptedRunError
from coordinator.run.driver import Published, RunOutcome

_STOP = (signal.SIGINT, signal.SIGTERM)
_PRESS_S = 0.1


async def to_the_end(
    work: Callable[[RunOutcome], Awaitable[None]], stopped: InterruptedRunError, emit: Emit
) -> Published:
    """Does `work`, which tells the outcome of its run. Raises that where it is an error.

    The first Ctrl-C ends the run, its builds are cancelled on their hosts; the second does not wait for that. Before
    the run is driven it raises `stopped`. SIGHUP leaves the run going, for whoever attaches.
    """
    outcome = RunOutcome()
    task = asyncio.ensure_future(work(outcome))

    def stopping() -> None:
        cancels = ": builds are cancelled on their hosts; Ctrl-C again stops without waiting"
        emit(Notice(f"stopping{cancels if outcome.awaited else ''}"))

    def left() -> None:
        emit(Notice("the terminal is gone, the run goes on"))

    async with _interruptible(task, stopping, left):
        try:
            await task
        except asyncio.CancelledError:
            if outcome.value is None:
                raise stopped from None
        except ArchloomError:
            # Once the run has ended there is only clean-up, and that changes nothing of how it ended.
            if outcome.value is None:
                raise
    if isinstance(outcome.value, Published):
        return outcome.value
    raise outcome.value or RuntimeError("a run has ended without an outcome")


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
