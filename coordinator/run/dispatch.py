"""Which step carries out which action."""

from __future__ import annotations

from coordinator.domain.run.next_actions import Publish
from coordinator.domain.run.registry_trouble import RegistryUse
from coordinator.run.context import RunContext
from coordinator.run.loop import Dispatch, StepAction
from coordinator.run.registry_patience import persist


def dispatcher(run: RunContext) -> Dispatch:
    """Return the function that carries out an action of this run. A step commits its outcome before it returns.

    What an action needs is imported when the first such action comes: a run that reuses everything has no attempts.
    """

    async def dispatch(action: StepAction) -> None:
        if isinstance(action, Publish):
            from coordinator.publish.publish import Publication, publish

            target = run.request.target
            publication = Publication(
                run_id=run.run_id,
                target=target,
                store=run.store,
                registries=run.registries,
                check_lease=run.lease.beat,
                emit=run.emit,
            )
            use = RegistryUse(name="publish", registry=target.repositories[0].registry)
            await persist(run, use, lambda: publish(publication))
        else:
            from coordinator.run.steps.of_attempt import carry_out

            await carry_out(run, action)

    return dispatch
