"""Import the archive of an image from a host into a registry as a child, by digest."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from coordinator.domain.causes import Cause
from coordinator.domain.image.descriptors import (
    DOCKER_MANIFEST,
    INDEXES,
    MANIFESTS,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    malformed,
    read_descriptor,
    read_json,
    read_manifest,
    sha256,
)
from coordinator.domain.image.index import Child, assemble, parse_index, resolve
from coordinator.domain.image.platforms import Platform
from coordinator.errors import RegistryError
from coordinator.image.archive import BLOBS, INDEX, MANIFEST, Contents, Layer, read_archive
from coordinator.image.image_destination import ImageDestination

_DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_MAX_LINK_DEPTH = 8


async def import_archive(
    chunks: AsyncIterator[bytes],
    destination: ImageDestination,
    folder: Path,
    *,
    image_id: str,
    wanted: Platform,
    what: str,
) -> Manifest:
    """Import this archive into `destination`; return its manifest: the child, or an index of it and its attestations.

    `image_id` is the engine's; it must be the digest of the config, the manifest or the index. Layers that are bare
    tars are gzipped and get a new manifest: a Docker manifest for a docker-archive, as that engine would push, an OCI
    manifest for an OCI layout. Any other manifest is pushed byte for byte. Raises the errors of `read_archive`.
    """
    archive = _ArchiveImport(await read_archive(chunks, destination, folder, what), destination, image_id)
    if INDEX in archive.contents.documents:
        return await archive.oci(wanted)
    return await archive.docker()


class _ArchiveImport:
    def __init__(self, contents: Contents, destination: ImageDestination, image_id: str) -> None:
        self.contents = contents
        self._destination = destination
        self._what = contents.what
        self._image_id = image_id

    async def docker(self) -> Manifest:
        """Push the config and the layers that `manifest.json` names, and return their new manifest."""
        listed = _listed(self.contents.documents.get(MANIFEST), self._what)
        raw = self._document(str(listed.get("Config")))
        digest = sha256(raw)
        self._check_id(digest)
        names = listed.get("Layers") or []
        layers = [self._layer(str(name)) for name in names] if isinstance(names, list) else []
        self._check_diff_ids(raw, [layer.diff_id for layer in layers])
        config = Descriptor(media_type=_DOCKER_CONFIG, digest=digest, size=len(raw))
        await self._put(config, raw)
        return await self._put_new_manifest(
            DOCKER_MANIFEST, config, [_with_media_type(layer.blob, _DOCKER_LAYER) for layer in layers]
        )

    async def oci(self, wanted: Platform) -> Manifest:
        """Push the image that `index.json` names, directly or through an index of the image and its attestations."""
        entries = _unique(parse_index(self.contents.documents[INDEX], self._what))
        ids = {entry.digest for entry in entries}
        if len(entries) == 1 and entries[0].media_type in INDEXES:
            entries = _unique(parse_index(self._document(_path(entries[0].digest)), self._what))
        image = self._only(entries, wanted)
        raw = self._document(_path(image.digest))
        manifest = read_manifest(raw, image.media_type, self._what)
        if manifest.media_type not in MANIFESTS:
            raise malformed(self._what, f"{image.digest} is an index in an index")
        config, layers = _parts(raw, self._what)
        self._check_id(config.digest, image.digest, *ids)
        if any(_path(layer.digest) in self.contents.layers for layer in layers):
            # Drop the attestations: they describe the original manifest, which is not pushed.
            return await self._put_gzipped(config, layers)
        await self._put_image(manifest)
        attestations = [entry for entry in entries if entry.subject == image.digest and self._has_document(entry)]
        if not attestations:
            return manifest
        for entry in attestations:
            attestation = self._document(_path(entry.digest))
            await self._put_image(read_manifest(attestation, entry.media_type, self._what))
        child = Child(platform=wanted, descriptor=manifest.descriptor, attestations=tuple(attestations))
        index = assemble([child]).manifest
        await self._destination.put_manifest(index)
        return index

    def _only(self, entries: Sequence[Descriptor], wanted: Platform) -> Descriptor:
        images = [entry for entry in entries if not entry.subject and entry.media_type not in INDEXES]
        chosen = images[0] if len(images) == 1 else resolve(images, wanted)
        if chosen is None:
            has = ", ".join(str(image.platform or "no platform") for image in images) or "no image"
            raise RegistryError(f"{self._what} has {has}, expected {wanted}", code=Cause.MISMATCH)
        return chosen

    async def _put_gzipped(self, config: Descriptor, layers: Sequence[Descriptor]) -> Manifest:
        """Push the same config and layers under a new manifest, bare tars gzipped, and return the manifest."""
        raw = self._document(_path(config.digest))
        bare = {layer.digest: self.contents.layers.get(_path(layer.digest)) for layer in layers}
        if all(bare.values()):
            self._check_diff_ids(raw, [layer.digest for layer in layers])
        await self._put(config, raw)
        typed = [
            _with_media_type(gzipped.blob, _OCI_LAYER) if (gzipped := bare[layer.digest]) else layer for layer in layers
        ]
        for layer in typed:
            await self._put_blob(layer)
        return await self._put_new_manifest(OCI_MANIFEST, config, typed)

    async def _put_image(self, manifest: Manifest) -> None:
        """Push a manifest unchanged, after the blobs that it names."""
        config, layers = _parts(manifest.raw, self._what)
        for blob in (config, *layers):
            await self._put_blob(blob)
        await self._destination.put_manifest(manifest)

    async def _put_blob(self, blob: Descriptor) -> None:
        raw = self.contents.documents.get(_path(blob.digest))
        if raw is not None:
            await self._put(blob, raw)
        elif blob.digest not in self.contents.blobs and not await self._destination.has(blob.digest):
            raise malformed(self._what, f"{blob.digest} is not in it")

    async def _put(self, blob: Descriptor, raw: bytes) -> None:
        if not await self._destination.has(blob.digest):
            await self._destination.put(blob.digest, len(raw), partial(_single_chunk, raw))

    async def _put_new_manifest(self, media_type: str, config: Descriptor, layers: Sequence[Descriptor]) -> Manifest:
        document = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": config.to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
        raw = json.dumps(document, separators=(",", ":")).encode()
        manifest = Manifest(raw=raw, media_type=media_type, digest=sha256(raw))
        await self._destination.put_manifest(manifest)
        return manifest

    def _document(self, name: str) -> bytes:
        document = self.contents.documents.get(name)
        if document is None:
            raise malformed(self._what, f"{name} is not in it")
        return document

    def _has_document(self, entry: Descriptor) -> bool:
        return _path(entry.digest) in self.contents.documents

    def _layer(self, name: str) -> Layer:
        """Return the layer with this member name, which may be a link to the same layer of an earlier image."""
        for _ in range(_MAX_LINK_DEPTH):
            if name not in self.contents.links:
                break
            name = self.contents.links[name]
        layer = self.contents.layers.get(name)
        if layer is None:
            raise malformed(self._what, f"the layer {name} is not in it")
        return layer

    def _check_id(self, *digests: str) -> None:
        if self._image_id not in digests:
            raise RegistryError(
                f"{self._what} holds the image {' or '.join(digests)}, expected {self._image_id}", code=Cause.MISMATCH
            )

    def _check_diff_ids(self, config: bytes, diff_ids: list[str]) -> None:
        rootfs = read_json(config, f"the config of {self._what}").get("rootfs")
        expected = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
        if (expected or []) != diff_ids:
            raise RegistryError(
                f"{self._what} has the layers {', '.join(diff_ids) or 'none'}, its config says {expected}",
                code=Cause.MISMATCH,
            )


def _listed(raw: bytes | None, what: str) -> dict[str, Any]:
    """Return the only image of `manifest.json`."""
    if raw is None:
        raise malformed(what, f"it has neither {INDEX} nor {MANIFEST}")
    # `read_json` accepts only an object.
    images = read_json(b'{"images":' + raw + b"}", what)["images"]
    if not isinstance(images, list) or len(images) != 1 or not isinstance(images[0], dict):
        raise malformed(what, f"its {MANIFEST} does not list exactly one image")
    return images[0]


def _parts(raw: bytes, what: str) -> tuple[Descriptor, list[Descriptor]]:
    document = read_json(raw, what)
    layers = document.get("layers") or []
    if not isinstance(layers, list):
        raise malformed(what, "its layers are not a list")
    return read_descriptor(document.get("config"), what), [read_descriptor(layer, what) for layer in layers]


def _unique(entries: Sequence[Descriptor]) -> list[Descriptor]:
    """Return the entries without duplicates: an image with several names is listed once for each name."""
    return list({entry.digest: entry for entry in entries}.values())


def _path(digest: str) -> str:
    return BLOBS + digest.removeprefix("sha256:")


def _with_media_type(blob: Descriptor, media_type: str) -> Descriptor:
    return Descriptor(media_type=media_type, digest=blob.digest, size=blob.size)


async def _single_chunk(raw: bytes) -> AsyncGenerator[bytes]:
    yield raw
