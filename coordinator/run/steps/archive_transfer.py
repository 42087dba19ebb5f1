"""Where a host's engine cannot reach the tunnel: its image leaves as an archive, and its bases arrive as one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from coordinator.domain.hosts.facts import Facts
from coordinator.domain.run.job_names import agent_job
from coordinator.domain.run.model import Attempt, Job
from coordinator.errors import LostError
from coordinator.hosts.agent.replies import HeldImage
from coordinator.image.archive_import import import_archive
from coordinator.image.base import BaseImage, base_archive, read_base
from coordinator.run.context import Loom
from coordinator.run.steps.job_spec import JobBase, known_bases
from coordinator.run.steps.registry_destination import Repository
from coordinator.store.folders import private_folder


async def image_out(loom: Loom, job: Job, attempt: Attempt, tell: Callable[[int, int], None]) -> str:
    """The digest of the child in the target's first repository; `tell` gets bytes done and in all, of the archive."""
    client = await loom.farm.reached_again(attempt.host)
    name = agent_job(loom.run_id, job, attempt)
    bases = known_bases(loom, job, attempt)
    sink = Repository(loom.registries, loom.request.target.repositories[0], bases, loom.layers)
    private_folder(loom.env.state)
    async with aclosing(client.image(name)) as archive:
        held = await anext(archive)
        if not isinstance(held, HeldImage):
            raise TypeError("an archive begins with which image it is of")
        async with aclosing(_told(archive, held.size, tell)) as chunks:
            manifest = await import_archive(
                chunks,
                sink,
                loom.env.state,
                image_id=held.image_id,
                wanted=job.platform,
                what=f"the archive of {name} from {attempt.host}",
            )
    return manifest.digest


async def bases_in(
    loom: Loom, job: Job, attempt: Attempt, bases: Sequence[JobBase], tell: Callable[[str], None]
) -> None:
    """Makes the host hold the job's bases; those it has are not sent again."""
    client = await loom.farm.client(attempt.host)
    name = agent_job(loom.run_id, job, attempt)
    wanted = {base.held: base for base in bases}
    lacking = [wanted[held] for held in await client.lacking(name) if held in wanted]
    if not lacking:
        return
    images = [(base.held, await _image(loom, base, loom.farm.facts_of(attempt.host))) for base in lacking]
    tell("sent as archives")
    async with aclosing(base_archive(images)) as chunks:
        await client.load(name, chunks)


async def _image(loom: Loom, base: JobBase, facts: Facts) -> BaseImage:
    registry = await loom.registries.registry(base.reference.registry)
    image = await read_base(registry, base.reference.repository, base.reference.digest)
    if image.is_zstd and not facts.loads_zstd:
        version = facts.engine.version if facts.engine else "there"
        raise LostError(
            f"host '{facts.host}': {base.use.text} has zstd layers, which engine {version} cannot load from an archive",
            hint="Docker 23.0 is the first that can; or build from a base with gzip layers",
            code="zstd",
        )
    return image


async def _told(
    archive: AsyncGenerator[HeldImage | bytes], size: int, tell: Callable[[int, int], None]
) -> AsyncGenerator[bytes]:
    done = 0
    async for piece in archive:
        if isinstance(piece, bytes):
            done += len(piece)
            # The engine counts files, an archive has headers too.
            tell(min(done, size), size)
            yield piece
