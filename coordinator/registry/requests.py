"""The requests that the client makes in several places. `doing` of each completes "cannot …" in errors."""

from __future__ import annotations

from coordinator.domain.causes import Cause
from coordinator.domain.image.descriptors import ACCEPT, sha256
from coordinator.domain.image.references import is_digest
from coordinator.errors import RegistryError
from coordinator.registry.auth import repository_scope
from coordinator.registry.endpoint import Endpoint
from coordinator.registry.http_policy import UPLOAD_OPENED
from coordinator.registry.transport import Request

PULL = ("pull",)
PUSH = ("pull", "push")


def named(endpoint: Endpoint, repository: str, target: str) -> str:
    """Return the name of a tag or a digest, as users write it."""
    return f"{endpoint.registry}/{repository}{'@' if is_digest(target) else ':'}{target}"


def manifest_request(
    endpoint: Endpoint, repository: str, target: str, method: str, accepted: tuple[int, ...]
) -> Request:
    return Request(
        doing=f"read the manifest {named(endpoint, repository, target)}",
        method=method,
        url=f"{endpoint.url}/v2/{repository}/manifests/{target}",
        accepted=accepted,
        scopes=(repository_scope(repository, PULL),),
        headers={"Accept": ACCEPT},
    )


def manifest_put(endpoint: Endpoint, repository: str, target: str, raw: bytes, media_type: str) -> Request:
    """Return the request that puts these bytes. Raises RegistryError `mismatch` for another digest than theirs."""
    name, digest = named(endpoint, repository, target), sha256(raw)
    if is_digest(target) and target != digest:
        raise RegistryError(
            f"the digest of {name} is {digest}: a manifest must be pushed under its own digest", code=Cause.MISMATCH
        )
    return Request(
        doing=f"push the manifest {name}",
        method="PUT",
        url=f"{endpoint.url}/v2/{repository}/manifests/{target}",
        accepted=(200, 201, 202),
        scopes=(repository_scope(repository, PUSH),),
        headers={"Content-Type": media_type},
        body=raw,
    )


def blob_head(endpoint: Endpoint, repository: str, digest: str) -> Request:
    return Request(
        doing=f"look for the blob {named(endpoint, repository, digest)}",
        method="HEAD",
        url=f"{endpoint.url}/v2/{repository}/blobs/{digest}",
        accepted=(200, 404),
        scopes=(repository_scope(repository, PULL),),
    )


def open_upload(endpoint: Endpoint, repository: str, doing: str) -> Request:
    return Request(
        doing=doing,
        method="POST",
        url=f"{endpoint.url}/v2/{repository}/blobs/uploads/",
        accepted=UPLOAD_OPENED,
        scopes=(repository_scope(repository, PUSH),),
    )
