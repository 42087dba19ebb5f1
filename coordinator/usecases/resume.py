"""`archloom resume`: take over an unfinished run from its state in the store, and drive it to its end."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Collection, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from coordinator.domain.hosts.inventory import Inventory
from coordinator.domain.placement.candidates import Candidates
from coordinator.domain.run import states
from coordinator.domain.run.events import Emit, Notice
from coordinator.domain.run.model import Job, Run
from coordinator.domain.run.states import AttemptState, JobState
from coordinator.domain.targets.request import BuildRequest, from_stored
from coordinator.environment import Environment
from coordinator.errors import DrivenElsewhereError, Exit, InterruptedRunError, RegistryError, UsageError
from coordinator.run.context import RunContext
from coordinator.run.driver import PreparedRun, RunResult
from coordinator.run.held_lease import HeldLease
from coordinator.run.hosts import RunHosts
from coordinator.run.inputs.gather import Earlier, Inputs, InputsGone, gather
from coordinator.run.inputs.reuse import find_reusable, take_reused
from coordinator.run.inputs.snapshot import changed_paths
from coordinator.run.plan_jobs import choose_hosts
from coordinator.run.session import Session, open_session
from coordinator.run.signals import run_in_foreground
from coordinator.state.open_store import open_store, without_history
from coordinator.store.processes import this_driver
from coordinator.store.sqlite import Store

_NOT_SENT = (AttemptState.ASSIGNED, AttemptState.SENDING)


async def resume(run: Run, inventory: Inventory, env: Environment, emit: Emit) -> RunResult:
    """Drive an unfinished run to its end, as `build` would have.

    Raises DrivenElsewhereError where another coordinator drives it, and UsageError where its inputs have changed and
    are still needed: the run is then left unchanged.
    """
    interrupted = InterruptedRunError(
        f"interrupted; run {run.id} and {', '.join(run.asked_tags)} are unchanged",
        hint=f"archloom resume {run.id}",
    )
    return await run_in_foreground(lambda stack: prepare(run.id, inventory, env, emit, stack), interrupted, emit)


async def prepare(
    run_id: str, inventory: Inventory, env: Environment, emit: Emit, stack: AsyncExitStack
) -> PreparedRun:
    """Take the lease of the run; return it as its last coordinator left it, with hosts for its unfinished jobs.

    What it opens is closed with `stack`; a run that has not ended by then is released for another coordinator.
    """
    began = env.clock()
    store = stack.enter_context(open_store(env, without_history(emit)))
    _check_newest(store.run(run_id), store)
    run = store.take_lease(run_id, this_driver(env.holder, secrets.token_hex(8)))
    stack.callback(_release_unfinished, store, run_id)
    lease = await stack.enter_async_context(HeldLease(store, run.id))
    session = await stack.enter_async_context(open_session(inventory, env, store, emit))
    request = from_stored(run.request)
    try:
        taken = await _take_up(run, request, session)
    except RegistryError as error:
        hint = f"nothing of the run is lost; when the registry serves again: archloom resume {run.id}"
        raise RegistryError(error.message, hint=hint, code=error.code, registry=error.registry) from error
    await stack.enter_async_context(session.farm.sweeping(store.is_obsolete))
    context = RunContext(
        session=session,
        run_id=run.id,
        lease=lease,
        request=request,
        inputs_or_gone=taken.inputs_or_gone,
        hosts=RunHosts(taken.chosen, session.farm),
    )
    return PreparedRun(context=context, began=began, resumed=True)


def _release_unfinished(store: Store, run_id: str) -> None:
    # Another coordinator may have taken the lease over since.
    with contextlib.suppress(DrivenElsewhereError):
        if not store.has_ended(run_id):
            store.release(run_id)


def _check_newest(run: Run, store: Store) -> None:
    """Raise UsageError `superseded` where a later run has published one of the tags: it must not be moved back."""
    tags = set(run.asked_tags)
    # Newest first, by the order in the store: the clock may have been set back since the run began.
    later = store.find_runs(
        lambda other: other.id == run.id or (other.exit_code == Exit.DONE and bool(tags & {*other.asked_tags})), 1
    )
    if later and later[0].id != run.id and run.finished_at is None:
        published = ", ".join(tag for tag in run.asked_tags if tag in later[0].asked_tags)
        raise UsageError(
            f"run {later[0].id}, begun later than run {run.id}, has published {published} since",
            hint=f"give this run up: archloom cancel {run.id}\n"
            f"to publish its image as {published} anyway, then: archloom retry {run.id}",
            code="superseded",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resumption:
    """What a resumed run continues with: its inputs, or why they are gone, and the hosts for its unfinished jobs."""

    inputs_or_gone: Inputs | InputsGone
    chosen: Candidates


async def _take_up(run: Run, request: BuildRequest, session: Session) -> _Resumption:
    """Gather the inputs again, and plan the unfinished jobs.

    Hosts with an attempt of the run are probed first: what they have built since is not built again.
    """
    _check_hosts(run, session.farm.hosts.keys())
    await session.registries.check_push(request.target.repositories)
    await session.probing.all(
        {attempt.host for job in run.jobs for attempt in job.attempts} & session.farm.hosts.keys()
    )
    inputs_or_gone = await _gather_again(run, request, session)
    unfinished = [job for job in run.jobs if not states.ended(job.state)]
    if isinstance(inputs_or_gone, InputsGone):
        _check_sent(run, unfinished, inputs_or_gone, session)
        return _Resumption(inputs_or_gone=inputs_or_gone, chosen=Candidates())
    pending = [job.platform for job in unfinished if job.state is JobState.PENDING]
    reused = await find_reusable(request, inputs_or_gone, pending, session.registries, session.store)
    take_reused(session.store, run, reused)
    # A job that is on a host needs another one only if it is lost.
    chosen = await choose_hosts(
        request,
        inputs_or_gone,
        [job.platform for job in unfinished if job.platform not in reused],
        session,
        needed=pending,
    )
    return _Resumption(inputs_or_gone=inputs_or_gone, chosen=chosen)


async def _gather_again(run: Run, request: BuildRequest, session: Session) -> Inputs | InputsGone:
    """Gather the inputs that the run began with; return InputsGone where they are no longer the same."""
    # Older versions of archloom did not store the inputs of a run.
    earlier = Earlier.from_json(run.inputs) if run.inputs else None
    try:
        inputs = await gather(request, session.registries, session.env, session.emit, earlier)
    except UsageError as error:
        return InputsGone(error.message)
    if all(inputs.build_ids[job.platform] == job.build_id for job in run.jobs):
        return inputs
    paths = changed_paths(session.env.state, run.id, inputs)
    changed = (earlier and inputs.changed_since(earlier, paths)) or "its inputs have changed"
    return InputsGone(f"{changed} since run {run.id} began")


def _check_hosts(run: Run, hosts: Collection[str]) -> None:
    """Raise UsageError where the inventory lacks a host with an open attempt.

    Otherwise the job would start again on another host, only because another inventory was given.
    """
    for job in run.jobs:
        unlisted = [attempt.host for attempt in job.live if attempt.host not in hosts]
        if unlisted and not states.ended(job.state):
            raise UsageError(
                f"host '{unlisted[0]}' has {job.platform} of run {run.id}, and is not in the inventory",
                hint=f"give an inventory that lists it with -i FILE; or give the run up: archloom cancel {run.id}",
            )


def _check_sent(run: Run, unfinished: Iterable[Job], gone: InputsGone, session: Session) -> None:
    """Raise UsageError `changed` where a job's inputs are not on its host yet, else emit a notice.

    Inputs that were sent are built as requested; a job that has none yet would build something else.
    """
    lacking = [job.platform for job in unfinished if _needs_inputs(job)]
    if lacking:
        raise UsageError(
            f"{gone.reason}; not sent yet: {', '.join(map(str, lacking))}",
            hint=f"restore it, then: archloom resume {run.id}\n"
            f"or build it as it is now: archloom cancel {run.id}, then archloom build",
            code="changed",
        )
    session.emit(Notice(f"{gone.reason}; the run is finished from the inputs that the hosts already have"))


def _needs_inputs(job: Job) -> bool:
    """Whether the job needs to be sent, now or as soon as its end is recorded."""
    return not any(attempt.is_final or (attempt.is_live and attempt.state not in _NOT_SENT) for attempt in job.attempts)
