"""One build, from the request to the tag: what is asked becomes a run, and the run is driven to its end."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from coordinator.domain.hosts.inventory import Inventory
from coordinator.domain.image.platforms import Platform
from coordinator.domain.image.verified_child import VerifiedChild
from coordinator.domain.placement.plan import Plan, check_names
from coordinator.domain.run.events import Emit, Notice
from coordinator.domain.run.job_names import run_of
from coordinator.domain.run.model import Run
from coordinator.domain.run.states import JobEvent
from coordinator.domain.targets.request import BuildRequest
from coordinator.environment import Environment
from coordinator.errors import InterruptedRunError, UsageError
from coordinator.farm.candidates import (
    candidates,
    plan_for,
    report_skipped_hosts,
    tell_of_inventory,
    wanted,
    with_platforms,
)
from coordinator.publish.registry_pool import Registries
from coordinator.run.dispatch import dispatcher
from coordinator.run.driver import Published, RunOutcome, finish, tell_of_run
from coordinator.run.held_lease import HeldLease
from coordinator.run.inputs.disk_estimate import spaces
from coordinator.run.inputs.gather import Earlier, Inputs, gather, read_dockerfile
from coordinator.run.inputs.reuse import reusable
from coordinator.run.inputs.snapshot import changed_paths, keep_inputs
from coordinator.run.session import Session, open_session
from coordinator.run.signals import to_the_end
from coordinator.state.open_store import open_history
from coordinator.state.retention import make_room
from coordinator.store.processes import this_driver
from coordinator.store.sqlite import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """What makes a run another try of run `run`: the same inputs, and only `platforms` are built."""

    run: str
    earlier: Earlier
    platforms: frozenset[Platform]


async def build(
    request: BuildRequest, inventory: Inventory, env: Environment, emit: Emit, again: Again | None = None
) -> Published:
    """Builds what is asked and moves the tags. Raises ArchloomError with the exit code; its message says of the tags
    whether any has moved.
    """
    untouched = f"{', '.join(map(str, request.target.tags))} not touched"
    stopped = InterruptedRunError(f"interrupted; {untouched}")
    return await to_the_end(lambda outcome: _build(request, inventory, env, emit, again, outcome), stopped, emit)


async def _build(
    request: BuildRequest,
    inventory: Inventory,
    env: Environment,
    emit: Emit,
    again: Again | None,
    outcome: RunOutcome,
) -> None:
    begun = env.clock()
    check_names(request.asked.names, inventory.hosts)
    tell_of_inventory(inventory, emit)
    with open_history(env, emit) as store:
        make_room(env, store, emit)
        async with open_session(inventory, env, store, emit) as here:
            request = await with_platforms(request, inventory, here.probing, emit)
            await check_push(request, here.registries)
            inputs = await _gather(request, here, again)
            platforms = request.target.platforms
            # A nonce is of one run: nothing can have its build ids yet.
            reused = (
                {}
                if inputs.unstable and not again
                else await find_reusable(request, inputs, platforms, here.registries)
            )
            left = [one for one in platforms if one not in reused and (not again or one in again.platforms)]
            plan = await planned(request, inputs, left, here)
            chosen = candidates(plan, needed=left)
            report_skipped_hosts(plan, emit)
            async with here.farm.sweeping(lambda name: store.has_ended(run_of(name))):
                driver, run_id = this_driver(env.holder, secrets.token_hex(8)), secrets.token_hex(4)
                # Before there is a run: what is interrupted here leaves none behind.
                await keep_inputs(env.state, run_id, inputs, plan, emit)
                run = store.create_run(
                    run_id,
                    request.to_json(),
                    inputs.build_ids,
                    driver=driver,
                    inputs=inputs.to_json(),
                    inventory=str(Path(inventory.source).absolute()) if inventory.source else "",
                )
                async with HeldLease(store, run.id) as lease:
                    take_reused(store, run, reused)
                    _skip(store, run, {*reused, *left})
                    loom = here.loom(run.id, lease, request, inputs, chosen.builders)
                    tell_of_run(loom, store.run(run.id), resumed=False)
                    await finish(loom, chosen.by_platform, dispatcher(loom), begun, outcome)


async def check_push(request: BuildRequest, registries: Registries) -> None:
    """Asks every repository before anything is sent to a host. Raises RegistryError where one does not take it."""
    for repository in request.target.repositories:
        await (await registries.registry(repository.registry)).check_push(repository.repository)


async def _gather(request: BuildRequest, here: Session, again: Again | None) -> Inputs:
    dockerfile = read_dockerfile(request.target)
    inputs = await gather(request.target, dockerfile, here.registries, again.earlier if again else None)
    if again:
        paths = changed_paths(here.env.state, again.run, inputs)
        changed = inputs.changed_since(again.earlier, paths)
        if changed:
            raise UsageError(
                f"{changed} since run {again.run} began: what is there now would be something else",
                hint="build what is there now with archloom build and the same words; what has not changed is reused",
                code="changed",
            )
    for reason in inputs.unstable:
        here.emit(Notice(f"nothing is reused: {reason}"))
    if inputs.context.skipped:
        here.emit(Notice(f"left out, not files or folders: {', '.join(inputs.context.skipped)}"))
    return inputs


async def find_reusable(
    request: BuildRequest, inputs: Inputs, platforms: Collection[Platform], registries: Registries
) -> dict[Platform, VerifiedChild]:
    """Those of the platforms that the first repository has already, verified."""
    first = request.target.repositories[0]
    registry = await registries.registry(first.registry)
    found = await asyncio.gather(
        *(reusable(registry, first.repository, one, inputs.build_ids[one], request.emulate) for one in platforms)
    )
    return {platform: child for platform, child in zip(platforms, found, strict=True) if child is not None}


async def planned(request: BuildRequest, inputs: Inputs, platforms: Collection[Platform], here: Session) -> Plan:
    """Who may build these platforms; hosts that matter are probed, and nothing is complained of."""
    jobs = wanted(inputs.dockerfile, list(platforms), await spaces(inputs, list(platforms), here.registries))
    found = await here.probing.to_place(jobs, request.asked)
    return plan_for(request, here.inventory, found, here.farm, jobs)


def take_reused(store: Store, run: Run, reused: Mapping[Platform, VerifiedChild]) -> None:
    """Commits the children the registry has: their jobs touch no host."""
    for job in run.jobs:
        child = reused.get(job.platform)
        if child is not None:
            store.verify_job(job.id, child.to_json(), winner=None)


def _skip(store: Store, run: Run, taken: Iterable[Platform]) -> None:
    for job in run.jobs:
        if job.platform not in taken:
            store.move_job(job.id, JobEvent.SKIP)
