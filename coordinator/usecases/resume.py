"""A run that its coordinator has left: taken up where the store says it was, and driven to its end."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from coordinator.domain.hosts.facts import Builder
from coordinator.domain.hosts.inventory import Inventory
from coordinator.domain.image.platforms import Platform
from coordinator.domain.placement.schedule import Candidate
from coordinator.domain.run import states
from coordinator.domain.run.events import Emit, Notice
from coordinator.domain.run.job_names import agent_job, run_of
from coordinator.domain.run.model import Job, Run
from coordinator.domain.run.states import AttemptState, JobState
from coordinator.domain.targets.request import BuildRequest, from_stored
from coordinator.environment import Environment
from coordinator.errors import Exit, InterruptedRunError, UsageError
from coordinator.farm.candidates import candidates, report_skipped_hosts
from coordinator.run.dispatch import dispatcher
from coordinator.run.driver import Published, RunOutcome, finish, tell_of_run
from coordinator.run.held_lease import HeldLease
from coordinator.run.inputs.gather import Earlier, Inputs, gather, read_dockerfile
from coordinator.run.inputs.snapshot import changed_paths
from coordinator.run.session import Session, open_session
from coordinator.run.signals import to_the_end
from coordinator.state.open_store import open_store, without_history
from coordinator.store.processes import this_driver
from coordinator.store.sqlite import Store
from coordinator.usecases.build import check_push, find_reusable, planned, take_reused

_NOT_SENT = (AttemptState.ASSIGNED, AttemptState.SENDING)


async def resume(run: Run, inventory: Inventory, env: Environment, emit: Emit) -> Published:
    """Goes on with an unfinished run, as `build` would have. Raises HeldError where somebody drives it, and UsageError
    where what it was asked to build is not here any more and is needed: then it stays as it is.
    """
    tags = ", ".join(run.asked_tags)
    stopped = InterruptedRunError(
        f"interrupted; run {run.id} and {tags} are as they were", hint=f"archloom resume {run.id}"
    )
    return await to_the_end(lambda outcome: _resume(run.id, inventory, env, emit, outcome), stopped, emit)


async def _resume(run_id: str, inventory: Inventory, env: Environment, emit: Emit, outcome: RunOutcome) -> None:
    begun = env.clock()
    with open_store(env, without_history(emit)) as store:
        _check_newest(store.run(run_id), store)
        run = store.drive(run_id, this_driver(env.holder, secrets.token_hex(8)))
        try:
            async with HeldLease(store, run.id) as lease, open_session(inventory, env, store, emit) as here:
                request = from_stored(run.request)
                taken = await _take_up(run, request, here)
                loom = here.loom(run.id, lease, request, taken.gathered, taken.builders)
                tell_of_run(loom, store.run(run.id), resumed=True)
                over = _over(run)
                async with here.farm.sweeping(lambda name: name in over or store.has_ended(run_of(name))):
                    await finish(loom, taken.by_platform, dispatcher(loom), begun, outcome)
        finally:
            if not outcome.awaited:
                store.release(run_id)


def _check_newest(run: Run, store: Store) -> None:
    """A tag that a later run has moved is not moved back by one that was left lying."""
    mine = set(run.asked_tags)
    later = store.find_runs(
        lambda one: one.created_at > run.created_at and one.exit_code == Exit.DONE and bool(mine & {*one.asked_tags}), 1
    )
    if later and run.finished_at is None:
        tags = ", ".join(tag for tag in run.asked_tags if tag in later[0].asked_tags)
        raise UsageError(
            f"run {later[0].id}, begun later than run {run.id}, has published {tags} since",
            hint=f"give this one up: archloom cancel {run.id}\n"
            f"to have its image as {tags} all the same, then: archloom retry {run.id}",
            code="superseded",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """What a run goes on with: its inputs, or why they are gone, and the hosts for what is left of it."""

    gathered: Inputs | UsageError
    by_platform: Mapping[Platform, Sequence[Candidate]]
    builders: Mapping[tuple[Platform, str], Builder]


async def _take_up(run: Run, request: BuildRequest, here: Session) -> _Taken:
    """Hosts that hold something of the run are asked first: what they have built meanwhile is not built again."""
    _check_hosts(run, here.farm.hosts.keys())
    await check_push(request, here.registries)
    await here.probing.all({attempt.host for job in run.jobs for attempt in job.attempts} & here.farm.hosts.keys())
    gathered = await _gathered(run, request, here)
    left = [job for job in run.jobs if not states.ended(job.state)]
    if isinstance(gathered, UsageError):
        _refuse_or_tell(run, left, gathered, here)
        return _Taken(gathered=gathered, by_platform={}, builders={})
    pending = [job.platform for job in left if job.state is JobState.PENDING]
    reused = await find_reusable(request, gathered, pending, here.registries)
    take_reused(here.store, run, reused)
    plan = await planned(request, gathered, [job.platform for job in left if job.platform not in reused], here)
    # A job that is on a host needs no other, unless it is lost there.
    chosen = candidates(plan, needed=pending)
    report_skipped_hosts(plan, here.emit)
    return _Taken(gathered=gathered, by_platform=chosen.by_platform, builders=chosen.builders)


async def _gathered(run: Run, request: BuildRequest, here: Session) -> Inputs | UsageError:
    """What the run builds from, exactly as it began, or why that cannot be had any more."""
    # A run that an older archloom began has not kept what it was made from.
    earlier = Earlier.from_json(run.inputs) if run.inputs else None
    try:
        inputs = await gather(request.target, read_dockerfile(request.target), here.registries, earlier)
    except UsageError as error:
        return error
    if all(inputs.build_ids[job.platform] == job.build_id for job in run.jobs):
        return inputs
    paths = changed_paths(here.env.state, run.id, inputs)
    changed = (earlier and inputs.changed_since(earlier, paths)) or "what it is built from is not the same"
    return UsageError(f"{changed} since run {run.id} began", code="changed")


def _check_hosts(run: Run, hosts: Collection[str]) -> None:
    """What a host is at work on is not begun anew elsewhere only because another inventory was given."""
    for job in run.jobs:
        attempt = job.attempt
        if attempt and not states.ended(attempt.state) and not states.ended(job.state) and attempt.host not in hosts:
            raise UsageError(
                f"host '{attempt.host}' has {job.platform} of run {run.id}, and is not in the inventory",
                hint=f"name one that has it with -i FILE; or give the run up: archloom cancel {run.id}",
            )


def _refuse_or_tell(run: Run, left: Iterable[Job], why: UsageError, here: Session) -> None:
    """What hosts have been sent is built as it was asked for; what they have not would be something else now."""
    lacking = [job.platform for job in left if _needs_inputs(job)]
    if lacking:
        raise UsageError(
            f"{why.message}; not sent yet: {', '.join(map(str, lacking))}",
            hint=f"put that back as it was, then: archloom resume {run.id}\n"
            f"or build what is there now: archloom cancel {run.id}, then archloom build",
            code="changed",
        )
    here.emit(Notice(f"{why.message}; what was asked for then is finished from what the hosts have"))


def _needs_inputs(job: Job) -> bool:
    return job.attempt is None or job.state is JobState.PENDING or job.attempt.state in _NOT_SENT


def _over(run: Run) -> frozenset[str]:
    """The names on hosts of what this run needs no more."""
    return frozenset(
        agent_job(run.id, job, attempt)
        for job in run.jobs
        for attempt in job.attempts
        if states.ended(job.state) or states.ended(attempt.state)
    )
