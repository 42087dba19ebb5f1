"""The steps of an attempt, by action."""

from __future__ import annotations

from coordinator.domain.run.next_actions import Build, Cancel, Push, Send, Verify
from coordinator.run.context import RunContext
from coordinator.run.steps.build import build
from coordinator.run.steps.cancel import cancel
from coordinator.run.steps.push import push
from coordinator.run.steps.send import send
from coordinator.run.steps.verify import verify


async def carry_out(run: RunContext, action: Send | Build | Push | Verify | Cancel) -> None:
    """Carry out the action on its attempt. The step commits its outcome before it returns."""
    attempt = run.attempt(action.attempt_id)
    match action:
        case Send():
            await send(attempt)
        case Build():
            await build(attempt)
        case Push():
            await push(attempt)
        case Verify():
            await verify(attempt)
        case Cancel():
            await cancel(attempt)
