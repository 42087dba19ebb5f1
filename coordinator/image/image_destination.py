"""Where an image goes that left its host as an archive."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from coordinator.domain.image.descriptors import Descriptor, Manifest


class ImageDestination(Protocol):
    """One repository of a registry. Methods raise RegistryError."""

    async def has(self, digest: str) -> bool: ...

    async def put(self, digest: str, size: int, chunks: Callable[[], AsyncGenerator[bytes]]) -> None:
        """Upload a blob; `chunks` gives its bytes anew for every try."""
        ...

    async def put_manifest(self, manifest: Manifest) -> None:
        """Under its digest."""
        ...

    async def layer(self, diff_id: str) -> Descriptor | None:
        """The gzipped blob of the layer with this uncompressed digest, where the repository has it or can get it."""
        ...

    def remember(self, diff_id: str, layer: Descriptor) -> None:
        """What `layer` may answer from now on: the repository has this blob."""
        ...
