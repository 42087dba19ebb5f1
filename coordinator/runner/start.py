"""One build, from the request to the tag."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack

from coordinator.config.credentials import DockerCredentials
from coordinator.domain.events import Event, Notice, Reused, RunStarted
from coordinator.domain.inventory import Inventory
from coordinator.domain.plan import check_names
from coordinator.domain.platforms import Platform
from coordinator.domain.references import Reference
from coordinator.domain.run import Run
from coordinator.errors import ArchloomError, InterruptedRunError
from coordinator.registry.broker import Broker
from coordinator.runner.around import Around
from coordinator.runner.child import StoredChild
from coordinator.runner.farm import Farm
from coordinator.runner.finish import Published, finish
from coordinator.runner.history import open_history
from coordinator.runner.inputs import Inputs, gather, read_dockerfile
from coordinator.runner.interrupt import interruptible
from coordinator.runner.logs import log_folder
from coordinator.runner.loom import Loom
from coordinator.runner.memory import Memory
from coordinator.runner.placing import (
    candidates,
    plan_for,
    tell_of_inventory,
    tell_who_is_left_out,
    wanted,
    with_platforms,
)
from coordinator.runner.probe import Probing
from coordinator.runner.registries import Registries
from coordinator.runner.request import BuildRequest
from coordinator.runner.reuse import reusable
from coordinator.runner.space import spaces
from coordinator.runner.upstream import Upstream
from coordinator.store.processes import this_driver

Emit = Callable[[Event], None]


async def build(request: BuildRequest, inventory: Inventory, around: Around, emit: Emit) -> Published:
    """Builds what is asked and moves the tags. Raises ArchloomError with the exit code; its message says of the tags
    whether any has moved.

    The first Ctrl-C cancels the builds on their hosts and then raises InterruptedRunError; the second does not wait.
    """
    done: list[Published | ArchloomError] = []
    work = asyncio.create_task(_build(request, inventory, around, emit, done))

    def stopping() -> None:
        emit(Notice("stopping: builds are cancelled on their hosts; Ctrl-C again stops without waiting"))

    async with interruptible(work, stopping):
        try:
            await work
        except asyncio.CancelledError:
            # Once the run has ended, only its clean-up can be interrupted: how it ended stands.
            if not done:
                raise InterruptedRunError(f"interrupted; {_named(request.target.tags)} not touched") from None
    if isinstance(done[0], ArchloomError):
        raise done[0]
    return done[0]


async def _build(
    request: BuildRequest, inventory: Inventory, around: Around, emit: Emit, done: list[Published | ArchloomError]
) -> None:
    begun = around.clock()
    check_names(request.asked.names, inventory.hosts)
    tell_of_inventory(inventory, emit)
    async with AsyncExitStack() as stack:
        credentials = DockerCredentials(around.environ, around.home)
        registries = await stack.enter_async_context(Registries(inventory.registries, credentials))
        broker = await stack.enter_async_context(Broker(Upstream(registries)))
        farm = await stack.enter_async_context(Farm(inventory, around, broker))
        dockerfile = read_dockerfile(request.target)
        store = stack.enter_context(open_history(around, emit))
        memory = Memory(store, around.clock)
        probing = await stack.enter_async_context(Probing(farm, inventory, memory, around, emit))
        request = await with_platforms(request, inventory, probing, emit)
        for repository in request.target.repositories:
            await (await registries.registry(repository.registry)).check_push(repository.repository)
        inputs = await gather(request.target, dockerfile, registries)
        _tell_of_inputs(inputs, emit)
        reused = await _reuse(request, inputs, registries)
        left = [platform for platform in request.target.platforms if platform not in reused]
        jobs = wanted(dockerfile, left, await spaces(inputs, left, registries))
        found = await probing.to_place(jobs, request.asked)
        plan = plan_for(request, inventory, found, farm, jobs)
        chosen = candidates(plan)
        tell_who_is_left_out(plan, emit)
        await stack.enter_async_context(farm.sweeping(store.has_ended))
        run = store.create_run(
            secrets.token_hex(4),
            request.to_json(),
            inputs.build_ids,
            driver=this_driver(around.holder, secrets.token_hex(16)),
            inputs={},
            inventory="",
        )
        loom = Loom(
            run_id=run.id,
            request=request,
            inputs=inputs,
            around=around,
            store=store,
            registries=registries,
            broker=broker,
            farm=farm,
            drivers=chosen.drivers,
            emit=emit,
        )
        _begin(loom, run, reused)
        try:
            done.append(await finish(loom, chosen.by_platform, begun))
        except ArchloomError as error:
            done.append(error)
            raise


async def _reuse(request: BuildRequest, inputs: Inputs, registries: Registries) -> dict[Platform, StoredChild]:
    """The platforms the first repository has already, verified."""
    if inputs.unstable:
        return {}
    first = request.target.repositories[0]
    registry = await registries.registry(first.registry)
    asked = inputs.build_ids.items()
    found = await asyncio.gather(
        *(reusable(registry, first.repository, platform, build_id, request.emulate) for platform, build_id in asked)
    )
    return {platform: child for (platform, _), child in zip(asked, found, strict=True) if child is not None}


def _named(tags: Sequence[Reference]) -> str:
    return ", ".join(map(str, tags))


def _tell_of_inputs(inputs: Inputs, emit: Emit) -> None:
    for reason in inputs.unstable:
        emit(Notice(f"nothing is reused: {reason}"))
    if inputs.context.skipped:
        emit(Notice(f"left out, not files or folders: {', '.join(inputs.context.skipped)}"))


def _begin(loom: Loom, run: Run, reused: Mapping[Platform, StoredChild]) -> None:
    target = loom.request.target
    tags = tuple(str(tag) for tag in target.tags)
    folder = str(log_folder(loom.around.state, run.id))
    loom.emit(RunStarted(run=run.id, tags=tags, platforms=target.platforms, log_folder=folder))
    for job in run.jobs:
        child = reused.get(job.platform)
        if child is not None:
            loom.store.verify_job(job.id, child.to_json(), winner=None)
            loom.emit(Reused(platform=job.platform, digest=child.digests[0], pin=child.pin))
