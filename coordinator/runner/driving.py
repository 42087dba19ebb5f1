"""Driving a run: the lease is kept while it goes on, and whoever asks for its end is heard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from coordinator.domain.lease import BEAT_S
from coordinator.errors import ArchloomError, HeldError, InterruptedRunError
from coordinator.runner.loom import Loom

_LISTEN_S = 1.0


@contextlib.asynccontextmanager
async def driving(loom: Loom) -> AsyncIterator[None]:
    """Ends the block with HeldError where another coordinator has taken the run over, and with InterruptedRunError
    after `archloom cancel`."""
    work = asyncio.current_task()
    assert work is not None  # noqa: S101 - we are in one
    before = work.cancelling()
    keeping = asyncio.create_task(_keep(loom, work))
    try:
        yield
    except asyncio.CancelledError:
        why = keeping.result() if keeping.done() and not keeping.cancelled() else None
        # Cancelled by Ctrl-C as well: that is said then.
        if why is not None and work.uncancel() <= before:
            raise why from None
        raise
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def _keep(loom: Loom, work: asyncio.Task[object]) -> ArchloomError:
    """Why the work was cancelled."""
    time = asyncio.get_running_loop().time
    beat_at = time() + BEAT_S
    while True:
        await asyncio.sleep(_LISTEN_S)
        try:
            if loom.store.cancel_asked(loom.run_id):
                why: ArchloomError = InterruptedRunError(f"run {loom.run_id} was cancelled", code="cancelled")
                break
            if time() >= beat_at:
                loom.store.beat(loom.run_id)
                beat_at = time() + BEAT_S
        except HeldError as error:
            why = error
            break
        except ArchloomError:
            # A disk that is full for a moment: the next beat may pass, and the next commit complains if it does not.
            beat_at = time() + _LISTEN_S
    work.cancel()
    return why
