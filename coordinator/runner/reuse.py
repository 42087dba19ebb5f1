"""Reuse: a child whose build id the registry already has, under its pin, is verified and taken as it is."""

from __future__ import annotations

from coordinator.domain.build_id import pin_tag
from coordinator.domain.platforms import Mode
from coordinator.domain.run import Job
from coordinator.domain.target import Emulate
from coordinator.errors import RegistryError
from coordinator.image.child import read_child
from coordinator.registry.client import Registry
from coordinator.runner.child import StoredChild
from coordinator.runner.verify import as_child

BUILD_ID_LABEL = "archloom.build-id"
MODE_LABEL = "archloom.mode"


async def reusable(registry: Registry, repository: str, job: Job, emulate: Emulate) -> StoredChild | None:
    """The pinned child of the job's build id, verified; `None` when it has to be built.

    The pin says which build it is and the image has to agree: its label names the same build id and the mode it was
    built in, which must satisfy `--emulate`. Either alone proves nothing, since children inherit labels through FROM
    and tags can be moved by hand. A pin that does not hold up is built again, and moved by that build.
    """
    pin = pin_tag(job.build_id, job.platform)
    found = await registry.head_manifest(repository, pin)
    if found is None:
        return None
    try:
        child = await read_child(registry, repository, found.digest, job.platform)
    except RegistryError as error:
        if error.code in ("mismatch", "not_found", "malformed"):
            return None
        raise
    mode = child.labels.get(MODE_LABEL, "")
    if child.labels.get(BUILD_ID_LABEL) != job.build_id or mode not in _accepted(emulate):
        return None
    return StoredChild(child=as_child(child), config_digest=child.config_digest, pin=pin, mode=Mode(mode))


def _accepted(emulate: Emulate) -> tuple[Mode, ...]:
    match emulate:
        case Emulate.AUTO:
            return tuple(Mode)
        case Emulate.NEVER:
            return (Mode.NATIVE, Mode.COMPAT, Mode.CROSS)
        case Emulate.ONLY:
            return (Mode.EMULATED,)
