"""Destination of an image that a host sends as an archive."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from coordinator.domain.image.descriptors import Descriptor, Manifest


class ImageDestination(Protocol):
    """One repository of a registry. Methods raise RegistryError."""

    async def has(self, digest: str) -> bool: ...

    async def put(self, digest: str, size: int, chunks: Callable[[], AsyncGenerator[bytes]]) -> None:
        """Upload a blob. `chunks` returns a new stream of its bytes for every try."""
        ...

    async def put_manifest(self, manifest: Manifest) -> None:
        """Put a manifest under its digest."""
        ...

    async def layer(self, diff_id: str) -> Descriptor | None:
        """Return the gzipped blob of the layer with this uncompressed digest.

        Return `None` where the repository neither has the blob nor can get it.
        """
        ...

    def remember(self, diff_id: str, layer: Descriptor) -> None:
        """Record that the repository has this blob, so that `layer` may return it."""
        ...
