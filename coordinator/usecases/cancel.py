"""`archloom cancel`: ask the driver of the run to end it; end it in this process where no driver is alive."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from coordinator.domain.hosts.inventory import Inventory
from coordinator.domain.placement.candidates import Candidates
from coordinator.domain.run.events import Emit
from coordinator.domain.run.lease import Driver
from coordinator.domain.run.model import Run
from coordinator.domain.targets.request import from_stored
from coordinator.environment import Environment
from coordinator.errors import DrivenElsewhereError, LostError, UsageError
from coordinator.run.context import AttemptContext, RunContext
from coordinator.run.driver import PreparedRun, end_cancelled
from coordinator.run.held_lease import HeldLease
from coordinator.run.hosts import RunHosts
from coordinator.run.inputs.gather import InputsGone
from coordinator.run.session import open_session
from coordinator.run.steps.attempt_end import forget
from coordinator.state.open_store import open_store
from coordinator.store.processes import this_driver
from coordinator.store.sqlite import Store

_POLL_S = 0.2
# A driver notices the request within 1 s, then waits at most 40 s for its hosts.
_DRIVER_TIMEOUT_S = 60.0


async def cancel(run_id: str, hosts: Callable[[], Inventory], env: Environment, emit: Emit) -> Run:
    """Cancel the run; return it as it ended, which may be published. Its jobs are deleted on hosts that answer.

    `hosts` loads the inventory, and is called only where no driver is alive. Raises LostError `held` where the driver
    does not end the run in time.
    """
    with open_store(env) as store:
        store.ask_cancel(run_id)
        driver = this_driver(env.holder, secrets.token_hex(8))
        held = await _take_lease(run_id, driver, store)
        if held is not None:
            try:
                await _end(held, hosts(), store, env, emit)
            finally:
                if not store.has_ended(run_id):
                    store.release(run_id)
        return store.run(run_id)


async def _take_lease(run_id: str, driver: Driver, store: Store) -> Run | None:
    """Take the lease once the run has no live driver, and return the run; None where its driver has ended it."""
    held_message = ""
    try:
        async with asyncio.timeout(_DRIVER_TIMEOUT_S):
            while not store.has_ended(run_id):
                try:
                    return store.take_lease(run_id, driver)
                except DrivenElsewhereError as error:
                    held_message = error.message
                except UsageError:
                    # Its driver may end the run between the two calls.
                    if not store.has_ended(run_id):
                        raise
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        message = f"run {run_id} was asked to end, and is still running: {held_message}"
        raise LostError(message, hint="end that process, then run the command again", code="held") from None
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
            inputs_or_gone=gone,
            hosts=RunHosts(Candidates(), session.farm),
        )
        await end_cancelled(PreparedRun(context=context, began=env.clock(), resumed=True))
        # The driver may have died before it deleted finished attempts on their hosts.
        attempts = [
            AttemptContext(run=context, job=job, attempt=attempt)
            for job in store.run(run.id).jobs
            for attempt in job.attempts
            if attempt != job.kept
        ]
        await asyncio.gather(*map(forget, attempts))
