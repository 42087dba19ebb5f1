"""Verify: what was pushed is read back from the registry, held against the plan, and pinned."""

from __future__ import annotations

from coordinator.domain.image.labels import own_labels
from coordinator.domain.image.verified_child import VerifiedChild
from coordinator.domain.inputs.build_id import pin_tag
from coordinator.domain.run.events import Verified
from coordinator.errors import RegistryError
from coordinator.image.child import read_child
from coordinator.registry.tags import set_tag
from coordinator.run.context import Loom, place
from coordinator.run.steps.attempt_end import failed, forget, lost
from coordinator.run.steps.phases import phase

_NOT_WHAT_WAS_ASKED = frozenset({"mismatch", "malformed", "schema1"})


async def verify(loom: Loom, attempt_id: int) -> None:
    """Takes the attempt from PUSHED to the job's verdict. Safe to repeat: reading and pinning twice changes nothing."""
    _, job, attempt = loom.find(attempt_id)
    here = place(job, attempt)
    repository = loom.request.target.repositories[0]
    registry = await loom.registries.registry(repository.registry)
    pin = pin_tag(job.build_id, job.platform)
    labels = own_labels(job.build_id, attempt.mode)
    try:
        with phase(loom, here, "verify"):
            child = await read_child(registry, repository.repository, attempt.digest, job.platform, labels)
            manifest = await registry.get_manifest(repository.repository, child.digest)
            await set_tag(registry, repository.repository, pin, manifest)
    except RegistryError as error:
        if error.code in _NOT_WHAT_WAS_ASKED:
            await failed(loom, job, attempt, error.code, error.message)
        else:
            await lost(loom, job, attempt, "registry", error.message)
        return
    seconds = loom.env.clock() - attempt.started_at
    stored = VerifiedChild(
        child=child.child,
        config_digest=child.config_digest,
        pin=pin,
        mode=attempt.mode,
        host=attempt.host,
        attempts=attempt.number,
        seconds=seconds,
    )
    loom.store.verify_job(job.id, stored.to_json(), winner=attempt_id)
    loom.emit(Verified(place=here, digest=child.digest, pin=pin, seconds=seconds))
    await forget(loom, job, attempt)
