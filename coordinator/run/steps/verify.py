"""The verify step: read the pushed image back from the registry, compare it with the request, and pin it."""

from __future__ import annotations

from coordinator.domain.causes import Cause, Fault, rule
from coordinator.domain.image.labels import own_labels
from coordinator.domain.image.verified_child import VerifiedChild
from coordinator.domain.inputs.build_id import pin_tag
from coordinator.domain.run.events import Verified
from coordinator.errors import RegistryError
from coordinator.image.child import read_child
from coordinator.registry.tags import set_tag
from coordinator.run.context import AttemptContext
from coordinator.run.steps.attempt_end import failed, forget, lost
from coordinator.run.steps.phases import phase


async def verify(ctx: AttemptContext) -> None:
    """Take the job of a PUSHED attempt to VERIFIED, or end the attempt. Idempotent: the pin keeps its manifest."""
    repository = ctx.run.request.target.repositories[0]
    registry = await ctx.run.registries.registry(repository.registry)
    pin = pin_tag(ctx.job.build_id, ctx.job.platform)
    labels = own_labels(ctx.job.build_id, ctx.attempt.mode)
    try:
        with phase(ctx, "verify"):
            child = await read_child(registry, repository.repository, ctx.attempt.digest, ctx.job.platform, labels)
            manifest = await registry.get_manifest(repository.repository, child.digest)
            await set_tag(registry, repository.repository, pin, manifest)
    except RegistryError as error:
        if rule(error.code).fault is Fault.BUILD:
            await failed(ctx, error.code, error.message)
        else:
            await lost(ctx, Cause.REGISTRY, error.message)
        return
    seconds = ctx.run.env.clock() - ctx.attempt.started_at
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
    await forget(ctx)
