"""A base image as an archive that `docker load` takes, straight out of its registry: nothing is kept on the way."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from coordinator.domain.image.descriptors import (
    LARGEST_MANIFEST,
    Descriptor,
    Manifest,
    malformed,
    read_descriptor,
    read_json,
)
from coordinator.errors import RegistryError
from coordinator.image.tar import END, header, padding

_TRIES = 3


class LayerSource(Protocol):
    """A registry, as far as reading an image goes. What it returns has the digest that was asked for."""

    async def get_manifest(self, repository: str, target: str) -> Manifest: ...

    async def get_blob(self, repository: str, digest: str, limit: int) -> bytes: ...

    def stream_blob(self, repository: str, digest: str) -> AsyncGenerator[bytes, None]:
        """In chunks. Raises RegistryError `mismatch` at the end of what is not `digest`, `broken` in its middle."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseImage:
    """One platform's image. `diff_ids` are its layers' uncompressed digests, in their order."""

    source: LayerSource
    repository: str
    digest: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]

    @property
    def is_zstd(self) -> bool:
        """Whether it has layers that only newer engines can load."""
        return any("zstd" in layer.media_type for layer in self.layers)


async def read_base(source: LayerSource, repository: str, digest: str) -> BaseImage:
    """The image of this manifest. Raises RegistryError: `malformed`, or the source's."""
    name = f"{repository}@{digest}"
    manifest = await source.get_manifest(repository, digest)
    if manifest.is_index:
        raise malformed(name, "it is an index of indexes")
    document = read_json(manifest.raw, name)
    config, listed = read_descriptor(document.get("config"), name), document.get("layers") or []
    rootfs = read_json(await source.get_blob(repository, config.digest, LARGEST_MANIFEST), name).get("rootfs")
    diff_ids = rootfs.get("diff_ids") or [] if isinstance(rootfs, dict) else []
    if not isinstance(listed, list) or not isinstance(diff_ids, list) or len(listed) != len(diff_ids):
        raise malformed(name, "its config and its manifest have different layers")
    return BaseImage(
        source=source,
        repository=repository,
        digest=digest,
        config=config,
        layers=tuple(read_descriptor(layer, name) for layer in listed),
        diff_ids=tuple(map(str, diff_ids)),
    )


async def base_archive(bases: Sequence[tuple[str, BaseImage]]) -> AsyncGenerator[bytes]:
    """A docker-archive of these images under these names, layers as the registry has them; `manifest.json` last.

    A connection that breaks is taken up again where it was. What was yielded before an error is no whole archive.
    Raises RegistryError.
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
    listed = json.dumps(
        [
            {
                "Config": _name(image, image.config),
                "RepoTags": [held],
                "Layers": [_name(image, layer) for layer in image.layers],
            }
            for held, image in bases
        ]
    ).encode()
    yield header("manifest.json", len(listed)) + listed + padding(len(listed)) + END


def _name(image: BaseImage, blob: Descriptor) -> str:
    return f"{blob.digest.removeprefix('sha256:')}.{'json' if blob is image.config else 'tar'}"


async def _blob(image: BaseImage, blob: Descriptor) -> AsyncGenerator[bytes]:
    sent = 0
    for left in reversed(range(_TRIES)):
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
            if error.code != "broken" or not left:
                raise
    if sent != blob.size:
        raise RegistryError(
            f"the blob {image.repository}@{blob.digest} has {sent} bytes, expected {blob.size}", code="mismatch"
        )
