"""The one place where what may be done next becomes something that is done."""

from __future__ import annotations

from coordinator.domain.run.model import Build, Cancel, Publish, Push, Send, Verify
from coordinator.publish.publish import publish
from coordinator.run.context import Loom
from coordinator.run.loop import Dispatch, Work
from coordinator.run.steps.build import build
from coordinator.run.steps.cancel import cancel
from coordinator.run.steps.push import push
from coordinator.run.steps.send import send
from coordinator.run.steps.verify import verify


def dispatcher(loom: Loom) -> Dispatch:
    """Does each action for this run; its outcome is committed when it returns."""

    async def perform(action: Work) -> None:
        match action:
            case Send(attempt_id):
                await send(loom, attempt_id)
            case Build(attempt_id):
                await build(loom, attempt_id)
            case Push(attempt_id):
                await push(loom, attempt_id)
            case Verify(attempt_id):
                await verify(loom, attempt_id)
            case Cancel(attempt_id):
                await cancel(loom, attempt_id)
            case Publish():
                await publish(loom, loom.run_id)

    return perform
