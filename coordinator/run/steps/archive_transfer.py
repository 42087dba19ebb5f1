"""Transfer the image and the bases of a job as archives, for a host whose engine cannot reach the tunnel."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from coordinator.domain.causes import Cause
from coordinator.errors import LostError
from coordinator.hosts.agent.replies import HeldImage
from coordinator.image.archive_import import import_archive
from coordinator.image.base import BaseImage, base_archive, read_base
from coordinator.run.context import AttemptContext
from coordinator.run.inputs.content_cache import CachedContent, ContentCache
from coordinator.run.steps.job_spec import JobBase, known_bases
from coordinator.run.steps.registry_destination import RegistryDestination
from coordinator.store.folders import private_folder


async def image_out(ctx: AttemptContext, tell: Callable[[int, int], None]) -> str:
    """Import the image into the target's first repository; return its digest. `tell` gets bytes done and in total."""
    client = await ctx.client()
    bases = known_bases(ctx)
    destination = RegistryDestination(ctx.run.registries, ctx.run.request.target.repositories[0], bases, ctx.run.layers)
    private_folder(ctx.run.env.state)
    async with aclosing(client.image(ctx.agent_job)) as archive:
        held = await anext(archive)
        if not isinstance(held, HeldImage):
            raise TypeError("an archive must begin with its image's id")
        async with aclosing(_counted(archive, held.size, tell)) as chunks:
            manifest = await import_archive(
                chunks,
                destination,
                ctx.run.env.state,
                image_id=held.image_id,
                wanted=ctx.job.platform,
                what=f"the archive of {ctx.agent_job} from {ctx.host}",
            )
    return manifest.digest


async def bases_in(ctx: AttemptContext, bases: Sequence[JobBase], tell: Callable[[str], None]) -> None:
    """Load the bases that the host's engine does not have. Raises LostError `zstd` where the engine cannot load one."""
    client = await ctx.client()
    by_name = {base.engine_name: base for base in bases}
    lacking = [by_name[held] for held in await client.lacking(ctx.agent_job) if held in by_name]
    if not lacking:
        return
    images = [(base.engine_name, await _image(ctx, base)) for base in lacking]
    tell("sent as archives")
    async with aclosing(base_archive(images)) as chunks:
        await client.load(ctx.agent_job, chunks)


async def _image(ctx: AttemptContext, base: JobBase) -> BaseImage:
    registry = await ctx.run.registries.registry(base.reference.registry)
    # The inputs have read most of it: Docker Hub counts every GET of a manifest as a pull.
    content = CachedContent(registry, ContentCache(ctx.run.env.state))
    image = await read_base(registry, base.reference.repository, base.reference.digest, content)
    if base.rewritten:
        image = image.with_config(base.rewritten.config)
    if image.is_zstd and not ctx.facts.loads_zstd:
        version = ctx.facts.engine.version if ctx.facts.engine else "there"
        raise LostError(
            f"host '{ctx.host}': {base.use.text} has zstd layers, which engine {version} cannot load from an archive",
            hint="update the engine to Docker 23.0 or newer; or build from a base with gzip layers",
            code=Cause.ZSTD,
        )
    return image


async def _counted(
    archive: AsyncGenerator[HeldImage | bytes], size: int, tell: Callable[[int, int], None]
) -> AsyncGenerator[bytes]:
    done = 0
    async for piece in archive:
        if isinstance(piece, bytes):
            done += len(piece)
            # `size` counts the files only; the archive has tar headers too, and may be larger.
            tell(min(done, size), size)
            yield piece
