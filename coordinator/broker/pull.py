"""The pull side of a grant: one base by its digest, and the blobs that its manifest names."""

from __future__ import annotations

from coordinator.broker.grant import RefusalError
from coordinator.broker.request import BoardRequest
from coordinator.broker.response import Reply
from coordinator.domain.image.descriptors import Manifest, read_descriptor, read_json
from coordinator.domain.image.index import parse_index
from coordinator.domain.image.references import is_digest
from coordinator.registry.requests import PULL


async def answer(request: BoardRequest, reply: Reply) -> None:
    """Answer one request to a base's repository. Raises RefusalError, or RegistryError where the registry refuses."""
    # Keyed by the whole reference: two bases may be in one repository.
    readable = request.grant.readable.setdefault(str(request.repository), {request.repository.digest})
    rewritten = request.grant.rewritten.get(request.rest)
    if rewritten is None and is_digest(request.rest) and request.rest not in readable:
        # Docker 20.10 and containerd's store keep manifests for a while after the image is gone, and ask for its blobs
        # alone when it is pulled again.
        readable |= await _named_below(request)
    if request.head.method not in ("GET", "HEAD"):
        raise RefusalError(405, "UNSUPPORTED", "archloom: a base image is read-only")
    if rewritten is None and (not is_digest(request.rest) or request.rest not in readable):
        raise RefusalError(404, "MANIFEST_UNKNOWN", f"archloom: this job may only pull {request.repository.digest}")
    if rewritten is not None:
        media_type, raw = rewritten
        if request.kind == "manifests":
            readable |= named_by(Manifest(raw=raw, media_type=media_type, digest=request.rest))
        await reply.small(200, {"Content-Type": media_type, "Docker-Content-Digest": request.rest}, raw)
    elif request.kind == "manifests":
        manifest = await request.upstreams.get_manifest(request.repository, request.rest)
        readable |= named_by(manifest)
        headers = {"Content-Type": manifest.media_type, "Docker-Content-Digest": manifest.digest}
        await reply.small(200, headers, manifest.raw)
    else:
        url = await request.url(f"blobs/{request.rest}")
        # After a broken connection an engine asks for the missing bytes of a layer.
        byte_range = request.head.header("range")
        async with request.ask(request.head.method, url, PULL, {"Range": byte_range} if byte_range else {}) as exchange:
            head = await request.expect(exchange, (200, 206, 416), f"pull a layer of {request.repository.name}")
            headers = {"Docker-Content-Digest": request.rest, "Content-Type": "application/octet-stream"}
            if head.header("content-range"):
                headers["Content-Range"] = head.header("content-range")
            await reply.relay(exchange, headers)


async def _named_below(request: BoardRequest) -> set[str]:
    """Return the digests that the base's manifest names, and where it is an index those that its manifests name."""
    base = request.repository.digest
    rewritten = request.grant.rewritten.get(base)
    if rewritten is not None:
        media_type, raw = rewritten
        return named_by(Manifest(raw=raw, media_type=media_type, digest=base))
    manifest = await request.upstreams.get_manifest(request.repository, base)
    named = named_by(manifest)
    children = named if manifest.is_index else set()
    for child in sorted(children):
        named |= named_by(await request.upstreams.get_manifest(request.repository, child))
    return named


def named_by(manifest: Manifest) -> set[str]:
    """Return the digests that a base's manifest or index names."""
    name = "a base"
    if manifest.is_index:
        return {entry.digest for entry in parse_index(manifest.raw, name)}
    document = read_json(manifest.raw, name)
    layers = document.get("layers") or []
    return {read_descriptor(entry, name).digest for entry in (document.get("config"), *layers)}
