"""Stream a base image from its registry as an archive for `docker load`, without storing it on the coordinator."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from coordinator.domain.causes import Cause
from coordinator.domain.image.descriptors import (
    MAX_MANIFEST_BYTES,
    Descriptor,
    Manifest,
    malformed,
    read_descriptor,
    read_json,
    sha256,
)
from coordinator.errors import RegistryCode, RegistryError
from coordinator.image.index_images import ContentSource
from coordinator.image.tar import END, header, padding

_TRIES = 3


class LayerSource(Protocol):
    """The methods of a registry that reading an image with its layers needs. Content has the requested digest."""

    async def get_manifest(self, repository: str, target: str) -> Manifest: ...

    async def get_blob(self, repository: str, digest: str, limit: int) -> bytes: ...

    def stream_blob(self, repository: str, digest: str) -> AsyncGenerator[bytes, None]:
        """Yield a blob in chunks.

        Raises RegistryError `corrupt` after the last chunk where the bytes do not have `digest`, `broken` where the
        connection breaks.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseImage:
    """The image of one platform. `diff_ids` are the digests of its uncompressed layers, in order.

    `raw_config` is a config that its registry does not have.
    """

    source: LayerSource
    repository: str
    digest: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]
    raw_config: bytes | None = None

    def with_config(self, raw: bytes) -> BaseImage:
        """Return the same layers with this config."""
        described = replace(self.config, digest=sha256(raw), size=len(raw))
        return replace(self, config=described, raw_config=raw)

    @property
    def is_zstd(self) -> bool:
        """Whether a layer is compressed with zstd, which only newer engines can load."""
        return any("zstd" in layer.media_type for layer in self.layers)


async def read_base(
    source: LayerSource, repository: str, digest: str, content: ContentSource | None = None
) -> BaseImage:
    """Return the image of this manifest. Raises RegistryError: `malformed`, or the source's.

    Manifest and config are read from `content`, which is `source` unless given.
    """
    content = content or source
    name = f"{repository}@{digest}"
    manifest = await content.get_manifest(repository, digest)
    if manifest.is_index:
        raise malformed(name, "it is an index of indexes")
    document = read_json(manifest.raw, name)
    config, layers = read_descriptor(document.get("config"), name), document.get("layers") or []
    rootfs = read_json(await content.get_blob(repository, config.digest, MAX_MANIFEST_BYTES), name).get("rootfs")
    diff_ids = rootfs.get("diff_ids") or [] if isinstance(rootfs, dict) else []
    if not isinstance(layers, list) or not isinstance(diff_ids, list) or len(layers) != len(diff_ids):
        raise malformed(name, "its config and its manifest have different layers")
    return BaseImage(
        source=source,
        repository=repository,
        digest=digest,
        config=config,
        layers=tuple(read_descriptor(layer, name) for layer in layers),
        diff_ids=tuple(map(str, diff_ids)),
    )


async def base_archive(bases: Sequence[tuple[str, BaseImage]]) -> AsyncGenerator[bytes]:
    """Yield a docker-archive of these images under these names, layers as the registry has them, `manifest.json` last.

    After a broken connection the archive continues at the same byte: a blob gets three tries. Bytes yielded before an
    error are no complete archive. Raises RegistryError.
    """
    written: set[str] = set()
    for _, image in bases:
        for blob in (image.config, *image.layers):
            name = _name(image, blob)
            if name not in written:
                written.add(name)
                yield header(name, blob.size)
                async with aclosing(_blob(image, blob)) as pieces:
                    async for piece in pieces:
                        yield piece
                yield padding(blob.size)
    manifest = json.dumps(
        [
            {
                "Config": _name(image, image.config),
                "RepoTags": [tag],
                "Layers": [_name(image, layer) for layer in image.layers],
            }
            for tag, image in bases
        ]
    ).encode()
    yield header("manifest.json", len(manifest)) + manifest + padding(len(manifest)) + END


def _name(image: BaseImage, blob: Descriptor) -> str:
    return f"{blob.digest.removeprefix('sha256:')}.{'json' if blob is image.config else 'tar'}"


async def _blob(image: BaseImage, blob: Descriptor) -> AsyncGenerator[bytes]:
    if blob is image.config and image.raw_config is not None:
        yield image.raw_config
        return
    sent = 0
    for tries_left in reversed(range(_TRIES)):
        try:
            skip = sent
            async with aclosing(image.source.stream_blob(image.repository, blob.digest)) as chunks:
                async for chunk in chunks:
                    piece, skip = chunk[skip:], max(0, skip - len(chunk))
                    sent += len(piece)
                    if piece and sent <= blob.size:
                        yield piece
            break
        except RegistryError as error:
            if error.code != RegistryCode.BROKEN or not tries_left:
                raise
    if sent != blob.size:
        raise RegistryError(
            f"the blob {image.repository}@{blob.digest} has {sent} bytes, expected {blob.size}", code=Cause.MISMATCH
        )
