"""A run in the foreground of a terminal: Ctrl-C stops it, a second Ctrl-C without waiting; SIGHUP does not stop it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

from coordinator.domain.run.events import Emit, Notice
from coordinator.errors import ArchloomError, InterruptedRunError, of_exit
from coordinator.run.driver import PreparedRun, RunResult, drive_to_end

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_REPEAT_CANCEL_S = 0.1

Prepare = Callable[[AsyncExitStack], Awaitable[PreparedRun]]


async def run_in_foreground(prepare: Prepare, interrupted: InterruptedRunError, emit: Emit) -> RunResult:
    """Prepare a run and drive it to its end. `prepare` puts what it opens on the stack, which is closed afterwards.

    The first Ctrl-C ends the run, and its builds are cancelled on their hosts; the second does not wait for that. After
    SIGHUP the run goes on, and `archloom attach` can follow it. Raises `interrupted` where the run was not driven yet,
    and the run's own error where it is not published.
    """
    foreground = _Foreground(prepare)
    task = asyncio.ensure_future(foreground.run())

    def on_stop() -> None:
        cancels = ": builds are cancelled on their hosts; Ctrl-C again stops without waiting"
        emit(Notice(f"stopping{cancels if foreground.is_driving else ''}"))

    def on_hang_up() -> None:
        emit(Notice("the terminal was closed, the run goes on"))

    async with _interruptible(task, on_stop, on_hang_up):
        try:
            result = await task
        except asyncio.CancelledError:
            raise interrupted from None
    if not result.descriptor:
        raise of_exit(result.exit_code, result.message, hint=result.hint, code=result.code)
    return result


class _Foreground:
    """One run from its preparation to its result. `is_driving` is set once it is prepared."""

    def __init__(self, prepare: Prepare) -> None:
        self._prepare = prepare
        self.is_driving = False

    async def run(self) -> RunResult:
        result: RunResult | None = None
        try:
            async with AsyncExitStack() as stack:
                prepared = await self._prepare(stack)
                self.is_driving = True
                result = await drive_to_end(prepared)
        except (ArchloomError, asyncio.CancelledError):
            # Once there is a result only clean-up remains: its failure does not change the result.
            if result is None:
                raise
        return result


@contextlib.asynccontextmanager
async def _interruptible(
    work: asyncio.Future[RunResult], on_stop: Callable[[], None], on_hang_up: Callable[[], None]
) -> AsyncIterator[None]:
    """Cancel `work` on SIGINT and SIGTERM while the block runs.

    After the second signal, cancel it every 0.1 s until it ends: that also interrupts every wait of its clean-up.
    """
    loop = asyncio.get_running_loop()
    is_stopping = False

    def caught() -> None:
        nonlocal is_stopping
        if is_stopping:
            cancel_repeatedly()
        else:
            is_stopping = True
            on_stop()
            work.cancel()

    def cancel_repeatedly() -> None:
        if not work.done():
            work.cancel()
            loop.call_later(_REPEAT_CANCEL_S, cancel_repeatedly)

    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, caught)
    loop.add_signal_handler(signal.SIGHUP, on_hang_up)
    try:
        yield
    finally:
        for number in (*_STOP_SIGNALS, signal.SIGHUP):
            loop.remove_signal_handler(number)
