"""Inspects, tags and untags images in the engine's store."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from agents.engine.engine_api import EngineSocket, RefusedError


def inspect(engine: EngineSocket, name: str, *, manifests: bool = False) -> dict[str, Any] | None:
    """Return the engine's description of the image with this name or id; None where it has none.

    With `manifests`, include those of the index behind the name, where the engine reports them (Docker 28, containerd's
    store).
    """
    try:
        image: dict[str, Any] = engine.call("GET", f"/images/{name}/json", {"manifests": "1"} if manifests else None)
    except RefusedError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise
    return image


def tag(engine: EngineSocket, source: str, name: str) -> None:
    """Add the name `repository:tag` to an image."""
    repository, _, label = name.rpartition(":")
    engine.call("POST", f"/images/{source}/tag", {"repo": repository, "tag": label})


def untag(engine: EngineSocket, name: str) -> None:
    """Remove the name; the engine deletes the image with its last name unless a container uses it. Idempotent."""
    try:
        engine.call("DELETE", f"/images/{name}")
    except RefusedError as error:
        # 409 Conflict, for an image's last name: a container uses the image ("container … is using its referenced
        # image"). archloom starts no containers, so leave the image to its user.
        if error.status not in {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}:
            raise
