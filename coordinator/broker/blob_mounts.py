"""Layers of a job's bases in the registry it pushes to: mounted there, so that no board sends them."""

from __future__ import annotations

import contextlib

from coordinator.broker.pull import named_by
from coordinator.broker.request import BoardRequest
from coordinator.domain.image.references import Reference
from coordinator.errors import ArchloomError


async def mount(call: BoardRequest) -> bool:
    """Whether the registry took the blob that is asked for over from a base of the job into the pushed repository.

    No refusal is an error: the blob can still be sent.
    """
    grant = call.grant
    # An engine asks for several layers at once, and the first answer may be that the registry does not mount.
    async with grant.mounting:
        if grant.mountable is None:
            grant.mountable = await _layers(call)
        source = grant.mountable.get(call.rest)
        if source is None:
            return False
        mounted = False
        with contextlib.suppress(ArchloomError):
            mounted = await call.upstreams.mount_blob(call.repository, call.rest, source)
        if not mounted:
            grant.mountable = {}
        return mounted


async def _layers(call: BoardRequest) -> dict[str, Reference]:
    """What the bases' own manifests name: a board that guesses at other blobs of their repositories gets nothing."""
    found: dict[str, Reference] = {}
    for base in call.grant.mount_from:
        if base.registry == call.repository.registry:
            with contextlib.suppress(ArchloomError):
                manifest = await call.upstreams.get_manifest(base, base.digest)
                found |= dict.fromkeys(named_by(manifest), base)
    return found
