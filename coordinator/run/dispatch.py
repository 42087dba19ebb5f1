"""Which step carries out which action."""

from __future__ import annotations

from coordinator.domain.run.next_actions import Build, Cancel, Publish, Push, Send, Verify
from coordinator.publish.publish import Publication, publish
from coordinator.run.context import RunContext
from coordinator.run.loop import Dispatch, StepAction
from coordinator.run.steps.build import build
from coordinator.run.steps.cancel import cancel
from coordinator.run.steps.push import push
from coordinator.run.steps.send import send
from coordinator.run.steps.verify import verify


def dispatcher(run: RunContext) -> Dispatch:
    """Return the function that carries out an action of this run. A step commits its outcome before it returns."""

    async def dispatch(action: StepAction) -> None:
        match action:
            case Send(attempt_id):
                await send(run.attempt(attempt_id))
            case Build(attempt_id):
                await build(run.attempt(attempt_id))
            case Push(attempt_id):
                await push(run.attempt(attempt_id))
            case Verify(attempt_id):
                await verify(run.attempt(attempt_id))
            case Cancel(attempt_id):
                await cancel(run.attempt(attempt_id))
            case Publish():
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

    return dispatch
