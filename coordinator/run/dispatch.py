"""Which step carries out which action."""

from __future__ import annotations

from coordinator.domain.run.next_actions import Publish
from coordinator.run.context import RunContext
from coordinator.run.loop import Dispatch, StepAction


def dispatcher(run: RunContext) -> Dispatch:
    """Return the function that carries out an action of this run. A step commits its outcome before it returns.

    What an action needs is imported when the first such action comes: a run that reuses everything has no attempts.
    """

    async def dispatch(action: StepAction) -> None:
        if isinstance(action, Publish):
            from coordinator.publish.publish import Publication, publish

            await publish(
                Publication(
                    run_id=run.run_id,
                    target=run.request.target,
                    store=run.store,
                    registries=run.registries,
                    check_lease=run.lease.beat,
                    emit=run.emit,
                )
            )
        else:
            from coordinator.run.steps.of_attempt import carry_out

            await carry_out(run, action)

    return dispatch
