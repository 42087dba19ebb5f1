"""The push side of a grant: blob uploads, manifests that go upstream by digest only, and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from urllib.parse import parse_qs, urlencode

from coordinator.broker.blob_mounts import mount
from coordinator.broker.grant import PushedManifest, RefusalError, Upload
from coordinator.broker.http1 import TooLargeError
from coordinator.broker.limits import keep_newest
from coordinator.broker.request import BoardRequest
from coordinator.broker.response import Reply
from coordinator.domain.image.descriptors import MAX_MANIFEST_BYTES, read_manifest
from coordinator.domain.image.references import is_digest
from coordinator.registry.http_policy import CHUNK_ACCEPTED, UPLOAD_ENDED, UPLOAD_OPENED, is_web_page
from coordinator.registry.refusals import no_registry
from coordinator.registry.requests import PUSH

_UPLOADS = "uploads/"
_PUSH_PATH = "/v2/push"


async def answer(request: BoardRequest, reply: Reply) -> None:
    """Answer one request to the repository `push`. Raises RefusalError, or RegistryError where the registry refuses."""
    method = request.head.method
    if request.kind == "manifests":
        await (_put_manifest if method == "PUT" else _show_manifest)(request, reply)
    elif request.rest.startswith(_UPLOADS):
        await _upload(request, reply)
    elif method == "HEAD" and is_digest(request.rest):
        await _head_blob(request, reply)
    else:
        raise RefusalError(405, "UNSUPPORTED", f"archloom: {method} of a pushed blob is not supported")


async def _head_blob(request: BoardRequest, reply: Reply) -> None:
    # Before an engine compresses and sends a layer of a base, it asks for the digest that it pulled.
    if await _show_blob(request, reply) or (await mount(request) and await _show_blob(request, reply)):
        return
    raise RefusalError(404, "BLOB_UNKNOWN", "archloom: the blob does not exist yet")


async def _show_blob(request: BoardRequest, reply: Reply) -> bool:
    """Answer with the blob's head where the repository has it, and return whether it does."""
    url = await request.url(f"blobs/{request.rest}")
    async with request.ask("HEAD", url, PUSH) as exchange:
        head = await request.expect(exchange, (200, 404), f"look for a layer in {request.repository.name}")
        if head.status == 200 and is_web_page({"content-type": head.header("content-type")}):
            endpoint = await request.upstreams.endpoint(request.repository.registry)
            raise no_registry(endpoint.url, endpoint.registry, f"it sends a web page for the blob {request.rest}")
        if head.status == 200:
            kind = "application/octet-stream"
            await reply.relay(exchange, {"Docker-Content-Digest": request.rest, "Content-Type": kind})
        return head.status == 200


async def _upload(request: BoardRequest, reply: Reply) -> None:
    match request.head.method, request.rest.removeprefix(_UPLOADS):
        case "POST", "":
            await _begin(request, reply)
        case "PATCH", name:
            await _patch(request, _upload_of(request, name), name, reply)
        case "PUT", name:
            await _finish(request, _upload_of(request, name), name, reply)
        case method, _:
            raise RefusalError(405, "UNSUPPORTED", f"archloom: {method} of an upload is not supported")


async def _begin(request: BoardRequest, reply: Reply) -> None:
    # Answer a `mount=` query with an ordinary upload: its `from` is a virtual name of the broker.
    url = await request.url("blobs/uploads/")
    async with request.ask("POST", url, PUSH) as exchange:
        head = await request.expect(exchange, UPLOAD_OPENED, f"push to {request.repository.name}")
        name = secrets.token_hex(16)
        request.grant.uploads[name] = Upload(await request.followed(exchange.url, head.header("location")))
        keep_newest(request.grant.uploads)
    await reply.small(202, _upload_headers(name, "0-0"))


async def _patch(request: BoardRequest, upload: Upload, name: str, reply: Reply) -> None:
    async with request.relay("PATCH", upload.url, PUSH) as exchange:
        head = await request.expect(exchange, CHUNK_ACCEPTED, f"push a layer to {request.repository.name}")
        # The next request goes to the Location of this answer, which the distribution-spec requires ("Pushing a blob in
        # chunks"). Without one, keep the previous URL.
        if head.header("location"):
            upload.url = await request.followed(exchange.url, head.header("location"))
        span = head.header("range") or "0-0"
    await reply.small(202, _upload_headers(name, span))


async def _finish(request: BoardRequest, upload: Upload, name: str, reply: Reply) -> None:
    digest = parse_qs(request.query).get("digest", [""])[0]
    if not is_digest(digest):
        raise RefusalError(400, "DIGEST_INVALID", f"archloom: '{digest}' is not a sha256 digest")
    separator = "&" if "?" in upload.url else "?"
    url = f"{upload.url}{separator}{urlencode({'digest': digest})}"
    # Most engines have sent all bytes by PATCH, and a PUT without a body can be repeated with a fresh token.
    asking = request.ask("PUT", url, PUSH) if request.body.over else request.relay("PUT", url, PUSH)
    async with asking as exchange:
        await request.expect(exchange, UPLOAD_ENDED, f"finish a layer in {request.repository.name}")
    # Another connection of the job may have finished the same upload.
    request.grant.uploads.pop(name, None)
    await reply.small(201, {"Location": f"{_PUSH_PATH}/blobs/{digest}", "Docker-Content-Digest": digest})


async def _put_manifest(request: BoardRequest, reply: Reply) -> None:
    try:
        raw = await request.body.whole(MAX_MANIFEST_BYTES)
    except TooLargeError as error:
        raise RefusalError(413, "SIZE_INVALID", f"archloom: the manifest has {error}") from error
    manifest = read_manifest(raw, request.head.header("content-type"), "the pushed manifest")
    by_digest = is_digest(request.rest)
    if by_digest and request.rest != manifest.digest:
        raise RefusalError(400, "DIGEST_INVALID", f"archloom: the digest of the manifest is {manifest.digest}")
    await request.upstreams.put_manifest(request.repository, manifest)
    pushed = PushedManifest(manifest.digest, manifest.media_type, len(raw))
    request.grant.manifests[manifest.digest] = pushed
    if not by_digest:
        request.grant.manifests[request.rest] = pushed
        request.grant.pushed = pushed
    keep_newest(request.grant.manifests)
    await reply.small(
        201, {"Location": f"{_PUSH_PATH}/manifests/{pushed.digest}", "Docker-Content-Digest": pushed.digest}
    )


async def _show_manifest(request: BoardRequest, reply: Reply) -> None:
    """Answer with a manifest that this job has pushed. Other manifests of the repository are not served."""
    pushed = request.grant.manifests.get(request.rest)
    if request.head.method not in ("GET", "HEAD"):
        raise RefusalError(405, "UNSUPPORTED", f"archloom: {request.head.method} of a manifest is not supported")
    if pushed is None:
        raise RefusalError(404, "MANIFEST_UNKNOWN", "archloom: this job has not pushed this manifest")
    manifest = await request.upstreams.get_manifest(request.repository, pushed.digest)
    await reply.small(200, {"Content-Type": pushed.media_type, "Docker-Content-Digest": pushed.digest}, manifest.raw)


def _upload_of(request: BoardRequest, name: str) -> Upload:
    upload = request.grant.uploads.get(name)
    if upload is None:
        raise RefusalError(404, "BLOB_UPLOAD_UNKNOWN", "archloom: no such upload of this job")
    return upload


def _upload_headers(name: str, span: str) -> Mapping[str, str]:
    return {"Location": f"{_PUSH_PATH}/blobs/{_UPLOADS}{name}", "Docker-Upload-UUID": name, "Range": span}
