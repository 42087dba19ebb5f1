"""`archloom retry`: run an unpublished run again. Failed and lost jobs are built, verified children are reused."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from coordinator.domain.hosts.inventory import Inventory
from coordinator.domain.image.platforms import Platform
from coordinator.domain.run.events import Emit
from coordinator.domain.run.model import Run
from coordinator.domain.run.states import JobState, TargetState
from coordinator.domain.targets.request import from_stored
from coordinator.environment import Environment
from coordinator.errors import UsageError
from coordinator.run.driver import RunResult
from coordinator.run.inputs.gather import Earlier
from coordinator.usecases.build import RetryOf, build


async def retry(
    run: Run, platforms: Sequence[Platform], inventory: Inventory, env: Environment, emit: Emit
) -> RunResult:
    """Start a new run with the request and the inputs of `run`. With `platforms`, build only these.

    Raises UsageError where there is nothing to retry, or where the inputs have changed.
    """
    _check_ended(run)
    if not run.inputs:
        raise UsageError(
            f"run {run.id} was created by an older archloom, which stored too little of it", hint=_REBUILD_HINT
        )
    wanted = frozenset(platforms) or frozenset(job.platform for job in run.jobs)
    _check_named(run, wanted)
    retry_of = RetryOf(run=run.id, earlier=Earlier.from_json(run.inputs), platforms=wanted)
    return await build(from_stored(run.request), inventory, env, emit, retry_of)


_REBUILD_HINT = "build it again with archloom build; what the registry already has is reused"


def _check_ended(run: Run) -> None:
    if run.finished_at is None:
        hint = f"wait for it: archloom wait {run.id}; if no coordinator drives it, resume it: archloom resume {run.id}"
        raise UsageError(f"run {run.id} has not ended", hint=hint)
    if run.target_state is TargetState.PUBLISHED:
        raise UsageError(f"run {run.id} is published: there is nothing to try again", hint=_REBUILD_HINT)


def _check_named(run: Run, wanted: Collection[Platform]) -> None:
    verified = [platform for platform in wanted if run.job_of(platform).state is JobState.VERIFIED]
    if len(verified) == len(wanted) < len(run.jobs):
        missing = ", ".join(str(job.platform) for job in run.jobs if job.state is not JobState.VERIFIED)
        raise UsageError(
            f"{', '.join(map(str, verified))} of run {run.id} is already built", hint=f"what is missing: {missing}"
        )
