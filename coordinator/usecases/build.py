"""`archloom build`: create a run from the request, and drive it to its end."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from coordinator.domain.hosts.inventory import Inventory
from coordinator.domain.image.platforms import Platform
from coordinator.domain.placement.candidates import Candidates
from coordinator.domain.placement.host_names import check_names
from coordinator.domain.run.events import Emit, Notice
from coordinator.domain.run.model import Attempt, Run
from coordinator.domain.run.states import JobEvent
from coordinator.domain.targets.request import BuildRequest
from coordinator.environment import Environment
from coordinator.errors import InterruptedRunError, UsageError
from coordinator.parallel import checked
from coordinator.publish.pins import warn_of_untagged
from coordinator.run.context import RunContext
from coordinator.run.driver import PreparedRun, RunResult
from coordinator.run.held_lease import HeldLease
from coordinator.run.hosts import RunHosts
from coordinator.run.inputs.gather import Earlier, Inputs, gather
from coordinator.run.inputs.reuse import find_reusable, take_reused
from coordinator.run.inputs.snapshot import changed_paths, keep_inputs
from coordinator.run.kept_images import adopt, find_kept
from coordinator.run.session import Session, open_session
from coordinator.run.signals import run_in_foreground
from coordinator.state.open_store import open_history
from coordinator.state.retention import make_room
from coordinator.store.processes import this_driver
from coordinator.store.sqlite import Store
from coordinator.usecases.inventory_notice import report_inventory


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOf:
    """The run that is retried: the new run has the same inputs, and builds only `platforms`."""

    run: str
    earlier: Earlier
    platforms: frozenset[Platform]


async def build(
    request: BuildRequest, inventory: Inventory, env: Environment, emit: Emit, retry_of: RetryOf | None = None
) -> RunResult:
    """Build the request and move the tags.

    Raises ArchloomError with the exit code; its message says which tags were moved, or that none was touched.
    """
    interrupted = InterruptedRunError(f"interrupted; {', '.join(map(str, request.target.tags))} not touched")
    return await run_in_foreground(
        lambda stack: prepare(request, inventory, env, emit, stack, retry_of), interrupted, emit
    )


async def prepare(
    request: BuildRequest,
    inventory: Inventory,
    env: Environment,
    emit: Emit,
    stack: AsyncExitStack,
    retry_of: RetryOf | None = None,
) -> PreparedRun:
    """Create a run of this request in the store, with its lease held and hosts for the platforms to build.

    What it opens is closed with `stack`. An error before `create_run` leaves no run in the store; after it, the run can
    be resumed.
    """
    began = env.clock() if env.began is None else env.began
    check_names(request.selection.names, inventory.hosts)
    report_inventory(inventory, emit)
    store = stack.enter_context(open_history(env, emit))
    make_room(env, store, emit)
    session = await stack.enter_async_context(open_session(inventory, env, store, emit))
    if not request.target.platforms:
        from coordinator.farm.candidates import with_platforms

        request = await with_platforms(request, inventory, session.probing, emit)
    request.selection.check_platforms(request.target.platforms)
    inputs = await _gather(request, session, retry_of)
    await warn_of_untagged(request.target.repositories, session.registries, emit)
    platforms = request.target.platforms
    # A new nonce gives new build ids, so the registry cannot have these children.
    may_be_reused = platforms if retry_of or not inputs.unstable else ()
    _begin_probes(request, inputs, may_be_reused, session)
    reused = await find_reusable(request, inputs, may_be_reused, session.registries, store)
    to_build = [
        platform
        for platform in platforms
        if platform not in reused and (retry_of is None or platform in retry_of.platforms)
    ]
    chosen = Candidates()
    kept: Mapping[Platform, Attempt] = {}
    if to_build:
        from coordinator.run.plan_jobs import choose_hosts

        kept = await find_kept(request, inputs, to_build, session)
        needed = [platform for platform in to_build if platform not in kept]
        chosen = await choose_hosts(request, inputs, to_build, session, needed=needed)
        await stack.enter_async_context(session.farm.sweeping(store.is_obsolete))
        for host in {hosts[0].host for hosts in chosen.by_platform.values() if hosts}:
            session.farm.open_ahead(host)
    driver, run_id = this_driver(env.holder, secrets.token_hex(8)), secrets.token_hex(4)
    # Before the run is created: an interrupt during this write leaves no run in the store.
    await keep_inputs(env.state, run_id, inputs, chosen.rows, emit)
    run = store.create_run(
        run_id,
        request.to_json(),
        inputs.build_ids,
        driver=driver,
        inputs=inputs.to_json(),
        inventory=str(Path(inventory.source).absolute()) if inventory.source else "",
        began=began,
    )
    lease = await stack.enter_async_context(HeldLease(store, run.id))
    take_reused(store, run, reused)
    adopt(store, run, kept)
    _skip_others(store, run, {*reused, *to_build})
    context = RunContext(
        session=session,
        run_id=run.id,
        lease=lease,
        request=request,
        inputs_or_gone=inputs,
        hosts=RunHosts(chosen, session.farm if to_build else None),
    )
    return PreparedRun(context=context, began=began)


async def _gather(request: BuildRequest, session: Session, retry_of: RetryOf | None) -> Inputs:
    earlier = retry_of.earlier if retry_of else None
    inputs = await checked(
        session.registries.check_push(request.target.repositories),
        gather(request, session.registries, session.env, session.emit, earlier),
    )
    if retry_of:
        paths = changed_paths(session.env.state, retry_of.run, inputs)
        changed = inputs.changed_since(retry_of.earlier, paths)
        if changed:
            raise UsageError(
                f"{changed} since run {retry_of.run} began: a retry would build something else",
                hint="build it as it is now with archloom build and the same flags; what has not changed is reused",
                code="changed",
            )
    for notice in inputs.notices:
        session.emit(Notice(notice))
    return inputs


def _begin_probes(request: BuildRequest, inputs: Inputs, may_be_reused: Collection[Platform], session: Session) -> None:
    """Begin to probe the hosts for the platforms that this machine has never seen built, while the registry is asked.

    A build of unchanged inputs that this machine has published before touches no host.
    """
    first = str(request.target.repositories[0])
    new = [
        platform
        for platform in request.target.platforms
        if platform not in may_be_reused
        or not session.store.children.known(first, inputs.build_ids[platform], platform)
    ]
    if new:
        from coordinator.farm.candidates import wanted

        session.probing.begin(wanted(inputs.frontend, new), request.selection)


def _skip_others(store: Store, run: Run, platforms: Collection[Platform]) -> None:
    for job in run.jobs:
        if job.platform not in platforms:
            store.move_job(job.id, JobEvent.SKIP)
