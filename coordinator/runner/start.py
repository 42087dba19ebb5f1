"""One build, from the request to the tag. `plan` is the same way, up to where the hosts are chosen."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from coordinator.config.credentials import DockerCredentials
from coordinator.domain.dockerfile_stages import Dockerfile
from coordinator.domain.events import Event, Notice, Reused, RunEnded, RunStarted
from coordinator.domain.facts import Driver, Facts
from coordinator.domain.fit import Frontend, Unreachable, Wanted
from coordinator.domain.inventory import Inventory, Kind
from coordinator.domain.outcome import complaint
from coordinator.domain.plan import Plan, check_names, plan
from coordinator.domain.platforms import Mode, Platform
from coordinator.domain.references import Reference
from coordinator.domain.run import Build, Publish, Push, Run, Send, Verify
from coordinator.domain.schedule import Candidate
from coordinator.domain.states import TargetState
from coordinator.errors import ArchloomError, Exit, InterruptedRunError, LostError, RegistryError
from coordinator.registry.broker import Broker
from coordinator.runner.around import Around
from coordinator.runner.build import build as build_attempt
from coordinator.runner.child import StoredChild, from_stored
from coordinator.runner.farm import Farm
from coordinator.runner.inputs import Inputs, gather, read_dockerfile
from coordinator.runner.interrupt import interruptible
from coordinator.runner.logs import log_folder, store_path
from coordinator.runner.loom import Loom
from coordinator.runner.loop import Work, drive
from coordinator.runner.publish import index_of, publish
from coordinator.runner.push import push
from coordinator.runner.registries import Registries
from coordinator.runner.request import BuildRequest
from coordinator.runner.reuse import reusable
from coordinator.runner.send import send
from coordinator.runner.stop import stop
from coordinator.runner.upstream import Upstream
from coordinator.runner.verify import verify
from coordinator.store.sqlite import Store

Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A run whose tags are moved. `descriptor` is the index's, as an index of indexes would name it."""

    run: Run
    descriptor: dict[str, object]

    @property
    def digest(self) -> str:
        return str(self.descriptor["digest"])

    @property
    def modes(self) -> dict[str, str]:
        """How each platform was built, in this run or in the one it was reused from."""
        return {str(job.platform): from_stored(job.child).mode.value for job in self.run.jobs if job.child}


async def build(request: BuildRequest, inventory: Inventory, around: Around, emit: Emit) -> Published:
    """Builds what is asked and moves the tags. Raises ArchloomError with the exit code; its message says of the tags
    whether any has moved.

    The first Ctrl-C cancels the builds on their hosts and then raises InterruptedRunError; the second does not wait.
    """
    done: list[Published] = []
    work = asyncio.create_task(_build(request, inventory, around, emit, done))

    def stopping() -> None:
        emit(Notice("stopping: builds are cancelled on their hosts; Ctrl-C again stops without waiting"))

    async with interruptible(work, stopping):
        try:
            await work
        except asyncio.CancelledError:
            # Between the last tag and the end there is nothing left to interrupt.
            if not done:
                raise InterruptedRunError(f"interrupted; {_named(request.target.tags)} not touched") from None
    return done[0]


async def _build(
    request: BuildRequest, inventory: Inventory, around: Around, emit: Emit, done: list[Published]
) -> None:
    begun = around.clock()
    check_names(request.on, inventory.hosts)
    _tell_of_inventory(inventory, emit)
    async with AsyncExitStack() as stack:
        credentials = DockerCredentials(around.environ, around.home)
        registries = await stack.enter_async_context(Registries(inventory.registries, credentials))
        broker = await stack.enter_async_context(Broker(Upstream(registries)))
        farm = await stack.enter_async_context(Farm(inventory, around, broker))
        dockerfile = read_dockerfile(request.target)
        found: Mapping[str, Facts | Unreachable] = {}
        if not request.target.platforms:
            found = await farm.probe()
            request = _with_platforms(request, inventory, found)
        for repository in request.target.repositories:
            await (await registries.registry(repository.registry)).check_push(repository.repository)
        inputs = await gather(request.target, dockerfile, registries)
        _tell_of_inputs(inputs, emit)
        reused = await _reuse(request, inputs, registries)
        left = [platform for platform in request.target.platforms if platform not in reused]
        if left and not found:
            found = await farm.probe()
        candidates = _candidates(_plan(request, inventory, found, farm, dockerfile, left))
        store = stack.enter_context(Store(store_path(around.state), around.clock))
        await farm.sweep(store.has_ended)
        run = store.create_run(secrets.token_hex(4), request.to_json(), inputs.build_ids)
        loom = Loom(
            run_id=run.id,
            request=request,
            inputs=inputs,
            around=around,
            store=store,
            registries=registries,
            broker=broker,
            farm=farm,
            drivers=candidates.drivers,
            emit=emit,
        )
        _begin(loom, run, reused)
        done.append(await _finish(loom, candidates.by_platform, begun))


@dataclass(frozen=True, slots=True)
class _Candidates:
    by_platform: Mapping[Platform, Sequence[Candidate]]
    drivers: Mapping[tuple[Platform, str], Driver]


def _candidates(plan: Plan) -> _Candidates:
    """Hosts for the platforms that have to be built. Raises NoHostError or LostError where one has none."""
    problem = plan.complaint()
    if problem is not None:
        raise problem
    drivers = {(one.platform, choice.host): choice.driver for one in plan.placements for choice in one.choices}
    return _Candidates(plan.candidates, drivers)


def _plan(
    request: BuildRequest,
    inventory: Inventory,
    found: Mapping[str, Facts | Unreachable],
    farm: Farm,
    dockerfile: Dockerfile,
    platforms: Sequence[Platform],
) -> Plan:
    frontend = Frontend.IMAGE if dockerfile.syntax else Frontend.BUILTIN
    wanted = [Wanted(platform=platform, frontend=frontend) for platform in platforms]
    return plan(wanted, inventory.hosts, found, emulate=request.emulate, on=request.on, slots=farm.slots)


def _with_platforms(
    request: BuildRequest, inventory: Inventory, found: Mapping[str, Facts | Unreachable]
) -> BuildRequest:
    """Without --platform: what the boards run natively; where there are no boards, what the emulators do."""
    if request.target.platforms:
        return request
    kind = Kind.BOARD if any(host.kind is Kind.BOARD for host in inventory.hosts) else Kind.EMULATOR
    facts = [found[host.name] for host in inventory.hosts if host.kind is kind]
    native = {p for one in facts if isinstance(one, Facts) for p in one.in_mode(Mode.NATIVE)}
    if not native:
        why = "; ".join(f"{host.name}: {_silence(found[host.name])}" for host in inventory.hosts if host.kind is kind)
        raise LostError(
            f"there are no platforms to build for, because no {kind} can say what it runs: {why}",
            hint="name them with --platform, and see archloom boards for what is wrong",
        )
    platforms = tuple(sorted(native, key=attrgetter("sort_key")))
    return replace(request, target=replace(request.target, platforms=platforms))


def _silence(found: Facts | Unreachable) -> str:
    if isinstance(found, Unreachable):
        return found.message
    return found.blocking.message if found.blocking else "it runs nothing natively"


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


def _tell_of_inventory(inventory: Inventory, emit: Emit) -> None:
    if not inventory.source:
        emit(Notice("no inventory file: this machine (local) builds everything, through QEMU where it must"))


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


async def plan_build(request: BuildRequest, inventory: Inventory, around: Around, emit: Emit) -> Plan:
    """The plan of this request; nothing is sent anywhere, and no registry is asked."""
    _tell_of_inventory(inventory, emit)
    dockerfile = read_dockerfile(request.target)
    async with Farm(inventory, around) as farm:
        found = await farm.probe()
        request = _with_platforms(request, inventory, found)
        return _plan(request, inventory, found, farm, dockerfile, request.target.platforms)


async def _finish(loom: Loom, chosen: Mapping[Platform, Sequence[Candidate]], begun: float) -> Published:
    """Drives the run to its end and writes down how it ended, whichever way that is."""
    tags = tuple(str(tag) for tag in loom.request.target.tags)
    published: Published | None = None
    code = Exit.BUG
    try:
        run = await drive(loom.run_id, loom.store, _performer(loom), chosen, loom.farm.slots, loom.emit)
        published = _published(run, ", ".join(tags))
    except asyncio.CancelledError:
        code = Exit.INTERRUPTED
        moved = [tag.reference for tag in loom.store.run(loom.run_id).tags if tag.moved]
        said = f"{', '.join(moved)} moved already" if moved else f"{', '.join(tags)} not touched"
        raise InterruptedRunError(f"interrupted; {said}") from None
    except ArchloomError as error:
        code = error.exit_code
        raise
    else:
        code = Exit.DONE
        return published
    finally:
        try:
            if code is not Exit.DONE:
                await stop(loom)
        finally:
            loom.store.finish(loom.run_id, code)
            _tell_of_end(loom, published, code, begun)


def _tell_of_end(loom: Loom, published: Published | None, code: Exit, begun: float) -> None:
    loom.emit(
        RunEnded(
            run=loom.run_id,
            exit_code=code,
            digest=published.digest if published is not None else "",
            tags=tuple(str(tag) for tag in loom.request.target.tags),
            platforms=published.modes if published is not None else {},
            seconds=loom.around.clock() - begun,
        )
    )


def _published(run: Run, tags: str) -> Published:
    """Raises what the run has to be complained of."""
    problem = complaint(run, tags)
    if problem is not None:
        raise problem
    if run.target_state is not TargetState.PUBLISHED:
        raise RegistryError(f"run {run.id} ended {run.target_state}", hint="build again", code="conflict")
    index = index_of(run)
    return Published(
        run=run, descriptor={"mediaType": index.media_type, "digest": index.digest, "size": len(index.raw)}
    )


def _performer(loom: Loom) -> Callable[[Work], Coroutine[Any, Any, None]]:
    async def perform(action: Work) -> None:
        match action:
            case Send(attempt_id):
                await send(loom, attempt_id)
            case Build(attempt_id):
                await build_attempt(loom, attempt_id)
            case Push(attempt_id):
                await push(loom, attempt_id)
            case Verify(attempt_id):
                await verify(loom, attempt_id)
            case Publish():
                await publish(loom, loom.run_id)

    return perform
