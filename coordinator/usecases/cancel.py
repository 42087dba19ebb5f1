"""A run that somebody wants no more: whoever drives it is asked, and where nobody does, we end it ourselves."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from coordinator.domain.hosts.inventory import Inventory
from coordinator.domain.run.events import Emit
from coordinator.domain.run.lease import Driver
from coordinator.domain.run.model import Run
from coordinator.domain.targets.request import from_stored
from coordinator.environment import Environment
from coordinator.errors import HeldError, LostError
from coordinator.run.context import AttemptContext, RunContext
from coordinator.run.driver import PreparedRun, end_cancelled
from coordinator.run.held_lease import HeldLease
from coordinator.run.inputs.gather import InputsGone
from coordinator.run.session import open_session
from coordinator.run.steps.attempt_end import forget
from coordinator.state.open_store import open_store
from coordinator.store.processes import this_driver
from coordinator.store.sqlite import Store

_LOOK_S = 0.2
# A driver hears it within a second, and gives its hosts forty to let go.
_PATIENCE_S = 60.0


async def cancel(run_id: str, hosts: Callable[[], Inventory], env: Environment, emit: Emit) -> Run:
    """The run as it ended, which may be otherwise: it was published just then. Nothing is left on hosts that answer.

    `hosts` are asked for where nobody drives the run. Raises LostError where its driver does not let go of it.
    """
    with open_store(env) as store:
        store.ask_cancel(run_id)
        driver = this_driver(env.holder, secrets.token_hex(8))
        held = await _taken(run_id, driver, store)
        if held is not None:
            try:
                await _end(held, hosts(), store, env, emit)
            finally:
                if not store.has_ended(run_id):
                    store.release(run_id)
        return store.run(run_id)


async def _taken(run_id: str, driver: Driver, store: Store) -> Run | None:
    """The run once nobody drives it any more; `None` where its driver has ended it."""
    while_held = ""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while not store.has_ended(run_id):
                try:
                    return store.drive(run_id, driver)
                except HeldError as error:
                    while_held = error.message
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        message = f"run {run_id} was asked to end, and still goes on: {while_held}"
        raise LostError(message, hint="end that process, then say it again", code="held") from None
    return None


async def _end(run: Run, inventory: Inventory, store: Store, env: Environment, emit: Emit) -> None:
    gone = InputsGone(f"run {run.id} is cancelled")
    async with (
        HeldLease(store, run.id, heeds_cancel=False) as lease,
        open_session(inventory, env, store, emit) as session,
    ):
        context = RunContext(
            session=session,
            run_id=run.id,
            lease=lease,
            request=from_stored(run.request),
            gathered=gone,
            builders={},
        )
        await end_cancelled(PreparedRun(context=context, candidates={}, began=env.clock(), resumed=True))
        # Its driver may have died before it tidied up behind what was done.
        attempts = [
            AttemptContext(run=context, job=job, attempt=attempt) for job in run.jobs for attempt in job.attempts
        ]
        await asyncio.gather(*map(forget, attempts))
