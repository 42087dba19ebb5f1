"""A run that somebody wants no more: whoever drives it is asked, and where nobody does, we end it ourselves."""

from __future__ import annotations

import asyncio
import secrets

from coordinator.domain.inventory import Inventory
from coordinator.domain.run import Run
from coordinator.errors import HeldError, LostError, UsageError
from coordinator.runner.around import Around
from coordinator.runner.fate import forget
from coordinator.runner.finish import abandon, tell_of_run
from coordinator.runner.history import open_store
from coordinator.runner.request import from_stored
from coordinator.runner.start import Emit
from coordinator.runner.workplace import workplace
from coordinator.store.processes import this_driver
from coordinator.store.sqlite import Store

_LOOK_S = 0.2
# A driver hears it within a second, and gives its hosts twenty to let go.
_PATIENCE_S = 45.0


async def cancel(run: Run, inventory: Inventory, around: Around, emit: Emit) -> None:
    """Returns when the run has ended and nothing of it is left on hosts that answer.

    Raises UsageError for a run that has ended, and LostError where its driver does not let go of it.
    """
    if run.finished_at is not None:
        raise UsageError(f"run {run.id} has ended already", hint=f"archloom why {run.id} says how")
    with open_store(around) as store:
        store.ask_cancel(run.id)
        driver = this_driver(around.holder, secrets.token_hex(8))
        try:
            held = store.drive(run.id, driver)
        except HeldError as error:
            await _wait(run, store, error)
            return
        gone = UsageError(f"run {run.id} is cancelled", code="cancelled")
        async with workplace(inventory, around, store, emit) as here:
            loom = here.loom(run.id, driver, from_stored(held.request), gone, {})
            tell_of_run(loom, held, resumed=True)
            await abandon(loom, around.clock())
            # Its driver may have died before it tidied up behind what was done.
            await asyncio.gather(*(forget(loom, job, attempt) for job in held.jobs for attempt in job.attempts))


async def _wait(run: Run, store: Store, held: HeldError) -> None:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while not store.has_ended(run.id):  # noqa: ASYNC110 - another process ends it
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        raise LostError(
            f"run {run.id} was asked to end, and still goes on: {held.message}",
            hint="end that process, then say it again",
            code="held",
        ) from None
