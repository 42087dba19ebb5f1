"""Mount the layers of a job's bases in the registry that the job pushes to, so that no board sends them."""

from __future__ import annotations

import contextlib

from coordinator.broker.pull import named_by
from coordinator.broker.request import BoardRequest
from coordinator.domain.image.references import Reference
from coordinator.errors import ArchloomError


async def mount(request: BoardRequest) -> bool:
    """Mount the requested blob from a base of the job into the pushed repository, and return whether it is mounted.

    A refusal is no error: the board can still send the blob.
    """
    grant = request.grant
    # An engine asks for several layers at once. One mount at a time: after the first refusal no other is tried.
    async with grant.mounting:
        if grant.mountable is None:
            grant.mountable = await _layers(request)
        source = grant.mountable.get(request.rest)
        if source is None:
            return False
        mounted = False
        with contextlib.suppress(ArchloomError):
            mounted = await request.upstreams.mount_blob(request.repository, request.rest, source)
        if not mounted:
            grant.mountable = {}
        return mounted


async def _layers(request: BoardRequest) -> dict[str, Reference]:
    """Return the bases by the digests that their manifests name.

    Other blobs of the bases' repositories are not mounted: a board must not reach them by guessing digests.
    """
    sources: dict[str, Reference] = {}
    for base in request.grant.mount_from:
        if base.registry == request.repository.registry:
            with contextlib.suppress(ArchloomError):
                manifest = await request.upstreams.get_manifest(base, base.digest)
                sources |= dict.fromkeys(named_by(manifest), base)
    return sources
