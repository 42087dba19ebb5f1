"""Images in the engine's store: looked at, named and unnamed."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from agents.engine.engine_api import EngineSocket, RefusedError


def inspect(engine: EngineSocket, name: str, *, manifests: bool = False) -> dict[str, Any] | None:
    """What the engine knows of the image of this name or id; None where it has none.

    With `manifests` also those of the index it may stand for, where the engine tells (Docker 28, containerd's store).
    """
    try:
        found: dict[str, Any] = engine.call("GET", f"/images/{name}/json", {"manifests": "1"} if manifests else None)
    except RefusedError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise
    return found


def tag(engine: EngineSocket, source: str, name: str) -> None:
    """Give an image one more name, `repository:tag`."""
    repository, _, label = name.rpartition(":")
    engine.call("POST", f"/images/{source}/tag", {"repo": repository, "tag": label})


def untag(engine: EngineSocket, name: str) -> None:
    """Take the name away, and the image where it was its last and nobody uses it. Fine to repeat."""
    try:
        engine.call("DELETE", f"/images/{name}")
    except RefusedError as error:
        # A container of somebody else's keeps it; it is theirs now.
        if error.status not in {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}:
            raise
