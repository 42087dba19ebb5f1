"""The verify step: read the pushed image back from the registry, compare it with the request, and pin it."""

from __future__ import annotations

from coordinator.domain.causes import Cause, Fault, rule
from coordinator.domain.hosts.inventory import Pins
from coordinator.domain.image.references import Reference
from coordinator.domain.image.verified_child import VerifiedChild
from coordinator.domain.inputs.pins import KnownChild, pin_tag
from coordinator.domain.run.events import Notice, Verified
from coordinator.domain.run.registry_trouble import RegistryUse
from coordinator.errors import RegistryError
from coordinator.image.child import CheckedImage, read_child
from coordinator.publish.pins import pin_or_adopt
from coordinator.registry.client import Registry
from coordinator.run.context import AttemptContext
from coordinator.run.registry_patience import persist
from coordinator.run.steps.attempt_end import begin_to_forget, failed, lost
from coordinator.run.steps.phases import phase


async def verify(ctx: AttemptContext) -> None:
    """Take the job of a PUSHED attempt to VERIFIED, or end the attempt. Idempotent: the pin keeps its manifest."""
    repository = ctx.run.request.target.repositories[0]
    registry = await ctx.run.registries.registry(repository.registry)
    try:
        child, pin = await persist(ctx.run, _use(ctx, repository), lambda: _in_phase(ctx, registry, repository))
    except RegistryError as error:
        if rule(error.code).fault is Fault.BUILD:
            await failed(ctx, error.code, error.message)
        else:
            await lost(ctx, Cause.REGISTRY, error.message, hint=error.hint)
        return
    # An earlier coordinator may have begun the attempt, by a clock that was set back since.
    seconds = max(0.0, ctx.run.env.clock() - ctx.attempt.started_at)
    stored = VerifiedChild(
        child=child.child,
        config_digest=child.config_digest,
        pin=pin,
        mode=ctx.attempt.mode,
        host=ctx.host,
        attempts=ctx.attempt.number,
        seconds=seconds,
    )
    ctx.run.store.verify_job(ctx.job.id, stored.to_json(), winner=ctx.attempt.id)
    ctx.run.emit(Verified(place=ctx.place, digest=child.digest, pin=pin, seconds=seconds))
    begin_to_forget(ctx)


def _use(ctx: AttemptContext, repository: Reference) -> RegistryUse:
    # The host keeps the image until it is verified.
    return RegistryUse(
        name=f"verify {ctx.attempt.id}",
        registry=repository.registry,
        platforms=(ctx.job.platform,),
        kept={str(ctx.job.platform): ctx.host},
    )


async def _in_phase(ctx: AttemptContext, registry: Registry, repository: Reference) -> tuple[CheckedImage, str]:
    with phase(ctx, "verify"):
        return await _verified(ctx, registry, repository)


async def _verified(ctx: AttemptContext, registry: Registry, repository: Reference) -> tuple[CheckedImage, str]:
    """Return the child to publish, and its pin where the registry keeps one."""
    pushed = await read_child(registry, repository.repository, ctx.attempt.digest, ctx.job.platform)
    child, pin = pushed, ""
    pins = ctx.run.registries.settings(repository.registry).pins
    if pins is Pins.OFF:
        return child, pin
    if pins is Pins.KEEP:
        pin = pin_tag(ctx.job.build_id, ctx.job.platform, ctx.attempt.mode)
        child, pin = await pin_or_adopt(registry, repository.repository, pushed, pin)
    if child.digest != pushed.digest:
        ctx.run.emit(Notice(f"{ctx.job.platform}: {child.digest} is published, which another run pinned meanwhile"))
    known = KnownChild(ctx.attempt.mode, child.digest, pin)
    ctx.run.store.children.record(str(repository), ctx.job.build_id, ctx.job.platform, known)
    return child, pin
