"""What a host is told to build: the job's spec, as `agents/README.md` has it."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.domain.dockerfile.bases import BaseUse, held_name, pin
from coordinator.domain.image.labels import own_labels
from coordinator.domain.image.platforms import Platform
from coordinator.domain.image.references import Reference
from coordinator.run.context import AttemptContext
from coordinator.run.inputs.gather import BUILD_PLATFORM, Inputs

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class JobBase:
    """One base of one job: under which name the host holds it, and under which the broker shows it."""

    use: BaseUse
    reference: Reference
    platform: Platform
    held: str
    shown: str


def job_bases(inputs: Inputs, platform: Platform, native: Platform) -> tuple[JobBase, ...]:
    """The resolved bases of this platform's job on a host that is natively `native`."""
    found: list[JobBase] = []
    for use in inputs.uses[platform]:
        base = inputs.bases.get(use.text)
        if base is not None:
            wanted = native if use.platform == BUILD_PLATFORM else use.platform
            digest = base.for_platform(wanted)
            found.append(
                JobBase(
                    use=use,
                    reference=base.reference.with_digest(digest),
                    platform=wanted,
                    held=held_name(use.text, digest),
                    # Jobs that pull at once into one engine remove the name they pulled by when they have it.
                    shown=f"{platform.architecture}{platform.variant}base{len(found)}",
                )
            )
    return tuple(found)


def known_bases(ctx: AttemptContext) -> tuple[JobBase, ...]:
    """The job's bases as far as they are known, which spare layers: a run that is gone on with may not have them."""
    if not isinstance(ctx.run.gathered, Inputs):
        return ()
    return job_bases(ctx.run.gathered, ctx.job.platform, ctx.facts.native)


def spec(ctx: AttemptContext, bases: tuple[JobBase, ...]) -> dict[str, object]:
    target = ctx.run.request.target
    pulled = {base.held: base for base in bases}
    return {
        "format": _FORMAT,
        "platform": str(ctx.job.platform),
        "engine": ctx.builder.value,
        "dockerfile": pin(ctx.run.inputs.dockerfile, {base.use.position: base.held for base in bases}),
        "dockerfile_path": ctx.run.inputs.dockerfile_path,
        "ignore_file": ".dockerignore",
        "stage": target.stage,
        "build_args": dict(target.build_args),
        "labels": {**target.labels, **own_labels(ctx.job.build_id, ctx.attempt.mode)},
        "no_cache": target.no_cache,
        "image": f"archloom/{ctx.run.run_id}:{ctx.job.platform.slug}-{ctx.attempt.number}",
        "bases": [
            {
                "name": base.held,
                "repository": base.shown,
                "digest": base.reference.digest,
                "platform": str(base.platform),
            }
            for base in pulled.values()
        ],
    }
