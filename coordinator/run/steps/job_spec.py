"""The spec of a job, which tells the agent what to build. The format is in `agents/README.md`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from coordinator.domain.dockerfile.bases import BUILD_PLATFORM, BaseUse
from coordinator.domain.dockerfile.pinning import held_name, pin
from coordinator.domain.image.platform_rewrite import RewrittenImage
from coordinator.domain.image.platforms import Mode, Platform
from coordinator.domain.image.references import Reference
from coordinator.run.context import AttemptContext
from coordinator.run.inputs.dockerfile_place import copied_dockerfile
from coordinator.run.inputs.gather import Inputs

_FORMAT = 1
# An emulated program that died as a container's first process hangs for ever, at 0 % CPU.
STALL_AFTER_S = 15 * 60.0
_KEY_DIGITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class JobBase:
    """One base of a job.

    `reference` is the image in its registry, by digest; `rewritten` is the same image for `platform`, where its config
    has another one: the engine then gets this. `engine_name` is its image name in the host's engine,
    `broker_repository` the repository it is pulled from at the broker.
    """

    use: BaseUse
    reference: Reference
    platform: Platform
    engine_name: str
    broker_repository: str
    rewritten: RewrittenImage | None = None

    @property
    def digest(self) -> str:
        """The digest that the engine pulls."""
        return self.rewritten.manifest.digest if self.rewritten else self.reference.digest


def job_bases(inputs: Inputs, platform: Platform, native: Platform) -> tuple[JobBase, ...]:
    """Return the resolved bases of the job for this platform, on a host whose engine's own platform is `native`."""
    bases: list[JobBase] = []
    for use in inputs.uses[platform]:
        base = inputs.bases.get(use.text)
        # A use that only an ONBUILD names cannot be pinned: the engine resolves the image itself.
        if base is not None and use.position is not None:
            base_platform = native if use.platform == BUILD_PLATFORM else use.platform
            digest = base.for_platform(base_platform)
            rewritten = base.rewritten(base_platform)
            bases.append(
                JobBase(
                    use=use,
                    reference=base.reference.with_digest(digest),
                    platform=base_platform,
                    engine_name=held_name(use.text, rewritten.manifest.digest if rewritten else digest),
                    rewritten=rewritten,
                    # Unique per platform: a job removes this image name after its pull, and another job may be pulling
                    # into the same engine.
                    broker_repository=f"{platform.architecture}{platform.variant}base{len(bases)}",
                )
            )
    return tuple(bases)


def known_bases(ctx: AttemptContext) -> tuple[JobBase, ...]:
    """Return the bases whose layers need no transfer; empty where the inputs of a resumed run are gone."""
    if not isinstance(ctx.run.inputs_or_gone, Inputs):
        return ()
    return job_bases(ctx.run.inputs_or_gone, ctx.job.platform, ctx.facts.native)


def spec(ctx: AttemptContext, bases: tuple[JobBase, ...]) -> dict[str, object]:
    """Return the spec of the attempt's job, ready for JSON. Raises LostError `changed` where the inputs are gone."""
    target = ctx.run.request.target
    pulled = {base.engine_name: base for base in bases}
    pinned = {position: base.engine_name for base in bases if (position := base.use.position) is not None}
    return {
        "format": _FORMAT,
        "platform": str(ctx.job.platform),
        "engine": ctx.builder.value,
        "dockerfile": pin(ctx.run.inputs.dockerfile, pinned),
        "dockerfile_path": ctx.run.inputs.dockerfile_path,
        "dockerfile_apart": bool(copied_dockerfile(ctx.run.inputs, ctx.job.platform)),
        "stage": target.stage,
        "build_args": dict(target.build_args),
        "labels": dict(target.labels),
        "no_cache": target.no_cache,
        "image": f"archloom/{ctx.run.run_id}:{ctx.job.platform.slug}-{ctx.attempt.number}",
        "bases": [
            {
                "name": base.engine_name,
                "repository": base.broker_repository,
                "digest": base.digest,
                "platform": str(base.platform),
            }
            for base in pulled.values()
        ],
        "context_key": _context_key(ctx),
        "has_context": has_context(ctx),
        "limits": {
            "memory_floor": ctx.run.farm.hosts[ctx.host].memory_floor,
            # A native program may compute for hours without a line; then the host is busy, and QEMU proves nothing.
            "stall_after": STALL_AFTER_S if ctx.attempt.mode is Mode.EMULATED else None,
        },
    }


def has_context(ctx: AttemptContext) -> bool:
    """Whether the job takes anything of the context, so that there is something to send."""
    return bool(ctx.run.inputs.contexts[ctx.job.platform].manifest.entries)


def _context_key(ctx: AttemptContext) -> str:
    """Return the key under which a host keeps the context's folder from build to build.

    Equal keys of different contexts are safe, but slow: the host replaces one by the other.
    """
    env, target = ctx.run.env, ctx.run.request.target
    parts = (env.holder, str(env.state), target.context, target.dockerfile, target.stage, str(ctx.job.platform))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:_KEY_DIGITS]
