"""Manifests and configs of base images on the coordinator's disk, by digest, so that each is asked for once.

Content never changes under its digest. Docker Hub counts every GET of a manifest as a pull, so a second build must not
repeat one.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

from coordinator.domain.causes import Cause
from coordinator.domain.image.descriptors import INDEXES, MANIFESTS, Manifest, sha256
from coordinator.errors import RegistryError
from coordinator.image.index_images import ContentSource
from coordinator.store.folders import private_folder

_FOLDER = "base-configs"
MOST_FILES = 2000
MOST_BYTES = 32 * 2**20
_MEDIA_TYPES = (*INDEXES, *MANIFESTS, "")


class ContentCache:
    """Files `<hex of the digest>`: the media type, a line feed, the bytes. A file with other bytes is ignored.

    The first `put` deletes the least recently written ones beyond 2000 files or 32 MiB: once per run, as it looks at
    every file. A disk that fails or is full only costs requests.
    """

    def __init__(self, state: Path) -> None:
        self._folder = state / _FOLDER
        self._has_room = False

    def get(self, digest: str) -> Manifest | None:
        """Return the content of this digest, `None` where it is not here. The media type of a config is empty."""
        try:
            media_type, _, raw = self._path(digest).read_bytes().partition(b"\n")
            text = media_type.decode("ascii")
        except (OSError, ValueError):
            return None
        if text not in _MEDIA_TYPES or sha256(raw) != digest:
            return None
        return Manifest(raw=raw, media_type=text, digest=digest)

    def put(self, content: Manifest) -> None:
        """Write the content by rename: another process never reads half of it."""
        with contextlib.suppress(OSError):
            private_folder(self._folder)
            new = self._folder / f".new-{secrets.token_hex(8)}"
            try:
                new.write_bytes(content.media_type.encode() + b"\n" + content.raw)
                new.replace(self._path(content.digest))
            finally:
                new.unlink(missing_ok=True)
            if not self._has_room:
                self._has_room = True
                self._make_room()

    def _path(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")

    def _make_room(self) -> None:
        count = size = 0
        for _, path, bytes_ in sorted(self._files(), reverse=True):
            count, size = count + 1, size + bytes_
            if count > MOST_FILES or size > MOST_BYTES:
                path.unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[float, Path, int]]:
        """Yield the write time, the path and the size of each file. Files that an interrupted write left count too."""
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                yield status.st_mtime, path, status.st_size


class CachedContent:
    """A registry whose manifests and small blobs by digest are asked for once and then kept."""

    def __init__(self, source: ContentSource, cache: ContentCache) -> None:
        self._source = source
        self._cache = cache

    async def get_manifest(self, repository: str, target: str) -> Manifest:
        """Return the manifest of this digest. Raises RegistryError as the registry does."""
        kept = self._cache.get(target)
        if kept is not None and kept.media_type:
            return kept
        manifest = await self._source.get_manifest(repository, target)
        if manifest.digest != target:
            raise RegistryError(f"{repository}@{target} was answered with {manifest.digest}", code=Cause.MISMATCH)
        self._cache.put(manifest)
        return manifest

    async def get_blob(self, repository: str, digest: str, limit: int) -> bytes:
        """Return a config, whole. Raises RegistryError as the registry does."""
        kept = self._cache.get(digest)
        if kept is not None:
            return kept.raw
        raw = await self._source.get_blob(repository, digest, limit)
        self._cache.put(Manifest(raw=raw, media_type="", digest=digest))
        return raw
