"""Read the images of an index as BuildKit finds them: in nested indexes too, and without a platform in the index.

Source: containerd `core/images/image.go`, `Manifest`: an entry without a platform is taken by the platform of its
config, an entry that is an index is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from coordinator.domain.causes import Cause
from coordinator.domain.image.descriptors import (
    MAX_MANIFEST_BYTES,
    Descriptor,
    Manifest,
    malformed,
    platform_in,
    read_descriptor,
    read_json,
)
from coordinator.domain.image.index import IndexImages, parse_index, with_platform
from coordinator.domain.image.platforms import Platform
from coordinator.errors import RegistryError

# An index in an index occurs (a tag pushed by Docker 29, listed by another tool); deeper ones are loops in disguise.
_MOST_LEVELS = 3
# Each entry without a platform costs two requests.
_MOST_READ = 32


class ContentSource(Protocol):
    """The methods of a registry that reading an image needs. Content has the requested digest."""

    async def get_manifest(self, repository: str, target: str) -> Manifest: ...

    async def get_blob(self, repository: str, digest: str, limit: int) -> bytes: ...


async def read_index(source: ContentSource, repository: str, index: Manifest) -> IndexImages:
    """Return the images of the index. Only entries that are indexes or have no platform are read from the source.

    Attestations and entries of unknown types are left out. Raises RegistryError: `malformed` (also for an index that
    is nested too deeply or has too many entries to read), or the source's.
    """
    listed, unlisted = await _Reader(source, repository).images(index, 1)
    return IndexImages(listed=tuple(listed), unlisted=tuple(unlisted))


class _Reader:
    def __init__(self, source: ContentSource, repository: str) -> None:
        self._source = source
        self._repository = repository
        self._read = 0

    async def images(self, index: Manifest, level: int) -> tuple[Sequence[Descriptor], Sequence[Descriptor]]:
        """Return the listed and the unlisted images."""
        name = f"{self._repository}@{index.digest}"
        listed: list[Descriptor] = []
        unlisted: list[Descriptor] = []
        for entry in parse_index(index.raw, name):
            if not entry.is_image or (entry.lists_platform and entry.platform is None):
                continue
            if entry.is_index and level == _MOST_LEVELS:
                raise malformed(name, f"its indexes are nested more than {_MOST_LEVELS} deep")
            images = await self._opened(entry, level)
            if entry.platform is None:
                unlisted += images
            else:
                listed += [image for image in images if _within(image.platform, entry.platform)]
        return listed, unlisted

    async def _opened(self, entry: Descriptor, level: int) -> Sequence[Descriptor]:
        """Return the images of this entry: none where the registry lacks it, as nobody may ever ask for it."""
        try:
            if entry.is_index:
                return await self._below(entry, level)
            own = entry.platform or await self._own_platform(entry)
        except RegistryError as error:
            if error.code != Cause.NOT_FOUND:
                raise
            return ()
        return () if own is None else (with_platform(entry, own),)

    async def _below(self, entry: Descriptor, level: int) -> Sequence[Descriptor]:
        index = await self._manifest(entry.digest)
        if not index.is_index:
            raise malformed(f"{self._repository}@{entry.digest}", "it is listed as an index, and is a manifest")
        listed, unlisted = await self.images(index, level + 1)
        # Highest variants first: the first that matches is then the one that containerd sorts to the front.
        return (*sorted(listed, key=_order), *unlisted)

    async def _own_platform(self, entry: Descriptor) -> Platform | None:
        """Return the platform in the entry's config."""
        name = f"{self._repository}@{entry.digest}"
        manifest = await self._manifest(entry.digest)
        if manifest.is_index:
            raise malformed(name, "it is listed as a manifest, and is an index")
        config = read_descriptor(read_json(manifest.raw, name).get("config"), name)
        blob = await self._source.get_blob(self._repository, config.digest, MAX_MANIFEST_BYTES)
        return platform_in(read_json(blob, f"the config of {name}"))

    async def _manifest(self, digest: str) -> Manifest:
        self._read += 1
        if self._read > _MOST_READ:
            raise malformed(
                self._repository, f"more than {_MOST_READ} entries of its index have no platform or are indexes"
            )
        return await self._source.get_manifest(self._repository, digest)


def _order(image: Descriptor) -> tuple[int, str, int, str, str]:
    return image.platform.sort_key if image.platform else (0, "", 0, "", "")


def _within(platform: Platform | None, listed: Platform) -> bool:
    return platform is not None and (platform.os, platform.architecture) == (listed.os, listed.architecture)
