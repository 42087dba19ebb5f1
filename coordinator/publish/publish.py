"""Publish: children to every repository, the index by digest, then the tags, last; each read back."""

from __future__ import annotations

from coordinator.domain.image.index import Index, assemble
from coordinator.domain.image.references import Reference
from coordinator.domain.image.verified_child import VerifiedChild, from_stored
from coordinator.domain.run.events import TagMoved
from coordinator.domain.run.model import Run
from coordinator.domain.run.states import TargetEvent, TargetState
from coordinator.errors import RegistryError
from coordinator.registry.client import Registry
from coordinator.registry.copy import copy_image
from coordinator.registry.tags import set_tag
from coordinator.run.context import Loom


def index_of(run: Run) -> Index:
    """The index of the run's verified children: the same children give the same bytes, run after run."""
    return assemble(child.child for child in _children(run))


async def publish(loom: Loom, run_id: str) -> None:
    """Takes the target from READY to PUBLISHED, or goes on from where it is. Safe to repeat.

    Raises RegistryError when a registry refuses, or when a tag does not say afterwards what was put there.
    """
    run = loom.store.run(run_id)
    index = index_of(run)
    tags = loom.request.target.tags
    if run.target_state is TargetState.READY:
        for repository in loom.request.target.repositories:
            await _fill(loom, run, repository, index)
        loom.store.move_target(run_id, TargetEvent.INDEX, digest=index.digest)
        run = loom.store.run(run_id)
    if run.target_state is TargetState.INDEXED:
        for tag in tags:
            await _remember(loom, run_id, tag)
        loom.store.move_target(run_id, TargetEvent.TAG)
        run = loom.store.run(run_id)
    moved = {tag.reference for tag in run.tags if tag.moved}
    for tag in tags:
        if str(tag) not in moved:
            await _move(loom, run_id, tag, index)
    loom.store.move_target(run_id, TargetEvent.PUBLISH)


async def _fill(loom: Loom, run: Run, repository: Reference, index: Index) -> None:
    """Children first: an index whose children are not there would be refused, or worse, accepted."""
    first = loom.request.target.repositories[0]
    registry = await loom.registries.registry(repository.registry)
    if repository != first:
        source = await loom.registries.registry(first.registry)
        for child in _children(run):
            for digest in child.digests:
                await copy_image(source, first.repository, digest, registry, repository.repository)
            image = await source.get_manifest(first.repository, child.digests[0])
            await set_tag(registry, repository.repository, child.pin, image)
    await registry.put_manifest(repository.repository, index.digest, index.raw, index.media_type)


def _children(run: Run) -> list[VerifiedChild]:
    """Raises LookupError for a job without a child: an index with a hole must not come to be."""
    missing = [job for job in run.jobs if job.child is None]
    if missing:
        raise LookupError(f"no child for {missing[0].platform}")
    return [from_stored(job.child) for job in run.jobs if job.child is not None]


async def _remember(loom: Loom, run_id: str, tag: Reference) -> None:
    registry = await loom.registries.registry(tag.registry)
    loom.store.expect_tag(run_id, str(tag), await _digest(registry, tag))


async def _digest(registry: Registry, tag: Reference) -> str:
    found = await registry.head_manifest(tag.repository, tag.tag)
    return found.digest if found else ""


def _conflict(loom: Loom, run_id: str, tag: Reference, then: str, now: str) -> RegistryError:
    loom.store.move_target(run_id, TargetEvent.DISAGREE)
    return RegistryError(
        f"{tag} {then}, and the registry now says {now or 'nothing'}: somebody else moves it",
        hint=f"look at it with archloom image inspect {tag}, then build again",
        code="conflict",
    )


async def _move(loom: Loom, run_id: str, tag: Reference, index: Index) -> None:
    registry = await loom.registries.registry(tag.registry)
    previous = next(one.previous for one in loom.store.run(run_id).tags if one.reference == str(tag))
    before = await _digest(registry, tag)
    if before not in (previous, index.digest):
        raise _conflict(loom, run_id, tag, f"was {previous or 'not there'} when this run began to publish", before)
    if before != index.digest:
        # Who slept while it waited for that answer may have been replaced, and what it knows of the tag be old.
        loom.lease.beat()
        await registry.put_manifest(tag.repository, tag.tag, index.raw, index.media_type)
    after = await _digest(registry, tag)
    if after != index.digest:
        raise _conflict(loom, run_id, tag, f"was set to {index.digest}", after)
    loom.store.tag_moved(run_id, str(tag))
    loom.emit(TagMoved(reference=str(tag), digest=index.digest, previous=previous))
