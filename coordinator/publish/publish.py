"""Publish a target: copy the children to every repository, write the index by digest, move the tags last. A tag that
was moved is read back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coordinator.domain.causes import Cause
from coordinator.domain.hosts.inventory import Pins
from coordinator.domain.image.index import Index, assemble
from coordinator.domain.image.references import Reference
from coordinator.domain.image.verified_child import VerifiedChild, from_stored
from coordinator.domain.inputs.pins import pin_tag
from coordinator.domain.run.events import Emit, TagMoved
from coordinator.domain.run.model import Job, Run
from coordinator.domain.run.states import TargetEvent, TargetState
from coordinator.domain.targets.target import Target
from coordinator.errors import RegistryCode, RegistryError
from coordinator.parallel import checked, in_parallel
from coordinator.publish.pins import keep_pinned
from coordinator.publish.registry_pool import Registries
from coordinator.registry.client import Registry
from coordinator.registry.copy import copy_image
from coordinator.store.sqlite import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """The publication of one run. `check_lease` raises DrivenElsewhereError where another coordinator has the run."""

    run_id: str
    target: Target
    store: Store
    registries: Registries
    check_lease: Callable[[], None]
    emit: Emit


def index_of(run: Run) -> Index:
    """Return the index of the run's verified children. The same children give the same bytes in every run."""
    return assemble(child.child for child in _children(run))


async def publish(publication: Publication) -> None:
    """Take the target from READY, INDEXED or TAGGING to PUBLISHED. Idempotent.

    Raises RegistryError where a registry refuses a request, and RegistryError `conflict` where a tag was moved by
    another program or does not read back as written.
    """
    store, run_id, target = publication.store, publication.run_id, publication.target
    run = store.run(run_id)
    index = index_of(run)
    if run.target_state is TargetState.READY:
        for repository in target.repositories:
            await _fill(publication, run, repository, index)
        store.move_target(run_id, TargetEvent.INDEX, digest=index.digest)
        run = store.run(run_id)
    if run.target_state is TargetState.INDEXED:
        for tag in target.tags:
            await _record_previous_digest(publication, tag, index)
        store.move_target(run_id, TargetEvent.TAG)
        run = store.run(run_id)
    moved = {tag.reference for tag in run.tags if tag.moved}
    for tag in target.tags:
        if str(tag) not in moved:
            await _move(publication, tag, index)
    store.move_target(run_id, TargetEvent.PUBLISH)


async def _fill(publication: Publication, run: Run, repository: Reference, index: Index) -> None:
    """Copy the children, then write the index: a registry may refuse, or worse accept, an incomplete index."""
    first = publication.target.repositories[0]
    registry = await publication.registries.registry(repository.registry)
    if repository != first:
        source = await publication.registries.registry(first.registry)
        for child in _children(run):
            for digest in child.digests:
                await copy_image(source, first.repository, digest, registry, repository.repository)
    is_there = await checked(
        _keep_all(publication, run, repository, registry), _has_index(registry, repository, run, index)
    )
    if not is_there:
        await registry.put_manifest(repository.repository, index.digest, index.raw, index.media_type)


async def _has_index(registry: Registry, repository: Reference, run: Run, index: Index) -> bool:
    """Return whether the index is there already, as after a build of the same inputs. It is asked for only then."""
    if not all(job.reused for job in run.jobs):
        return False
    return await registry.head_manifest(repository.repository, index.digest) is not None


async def _keep_all(publication: Publication, run: Run, repository: Reference, registry: Registry) -> None:
    if publication.registries.settings(repository.registry).pins is Pins.KEEP:
        # In the first repository again: another coordinator may have read a pin before it was there, and written it
        # after it was read back.
        first = publication.target.repositories[0]
        await in_parallel(*(_keep(registry, repository, job, first) for job in run.jobs))


async def _keep(registry: Registry, repository: Reference, job: Job, first: Reference) -> None:
    child = _child(job)
    pin = (repository == first and child.pin) or pin_tag(job.build_id, job.platform, child.mode)
    await keep_pinned(registry, repository.repository, child.digests[0], pin, child.child.attestations)


def _children(run: Run) -> list[VerifiedChild]:
    """Return the children of all jobs. Raises LookupError for a job without one: the index must be complete."""
    return [_child(job) for job in run.jobs]


def _child(job: Job) -> VerifiedChild:
    if job.child is None:
        raise LookupError(f"no child for {job.platform}")
    return from_stored(job.child)


async def _record_previous_digest(publication: Publication, tag: Reference, index: Index) -> None:
    registry = await publication.registries.registry(tag.registry)
    publication.store.expect_tag(publication.run_id, str(tag), await _digest(registry, tag, index))


async def _digest(registry: Registry, tag: Reference, index: Index) -> str:
    """Return the digest that the tag points to; empty where there is no such tag.

    Raises RegistryError `not_found` where the registry does not show the index either, which it has: a registry or a
    proxy that restarts may answer 404 to everything, and that says nothing of the tag.
    """
    manifest = await registry.head_manifest(tag.repository, tag.tag)
    if manifest is None and await registry.head_manifest(tag.repository, index.digest) is None:
        raise RegistryError(
            f"{tag.name}@{index.digest} was pushed, and the registry says that it does not exist",
            code=Cause.NOT_FOUND,
            registry=registry.name,
        )
    return manifest.digest if manifest else ""


def _conflict(publication: Publication, tag: Reference, expected: str, actual: str) -> RegistryError:
    publication.store.move_target(publication.run_id, TargetEvent.DISAGREE)
    return RegistryError(
        f"{tag} {expected}, and the registry now says {actual or 'nothing'}: somebody else moves it",
        hint=f"inspect it with archloom image inspect {tag}, then build again",
        code=RegistryCode.CONFLICT,
    )


async def _move(publication: Publication, tag: Reference, index: Index) -> None:
    store, run_id = publication.store, publication.run_id
    registry = await publication.registries.registry(tag.registry)
    previous = next(row.previous for row in store.run(run_id).tags if row.reference == str(tag))
    before = await _digest(registry, tag, index)
    if before not in (previous, index.digest):
        raise _conflict(publication, tag, f"was {previous or 'not there'} when this run began to publish", before)
    if before != index.digest:
        # Check the lease again: another coordinator may have taken the run over during the HEAD request.
        publication.check_lease()
        await registry.put_manifest(tag.repository, tag.tag, index.raw, index.media_type)
        after = await registry.read_back(tag.repository, tag.tag, before)
        if after != index.digest:
            raise _conflict(publication, tag, f"was set to {index.digest}", after)
    store.tag_moved(run_id, str(tag))
    publication.emit(TagMoved(reference=str(tag), digest=index.digest, previous=previous))
