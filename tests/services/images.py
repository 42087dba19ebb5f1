"""Base images made and pushed without any engine: blobs and manifests by plain HTTP."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.request import Request, urlopen

from tests.services.busybox import busybox
from tests.services.registry import Registry

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
_APPLETS = (
    "sh cat cp dd echo env false find head id ls mkdir mv readlink rm sha256sum sleep stat test touch true uname wc"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A pushed image to build FROM: `reference` is its tag, `digest` its index's, `children` each platform's."""

    reference: str
    digest: str
    children: Mapping[str, str]


def base_image(
    registry: Registry, *platforms: str, repository: str = "base", tag: str = "1", more: bytes = b""
) -> Base:
    """Pushes an OCI index of busybox images, each with a shell and the usual commands in /bin.

    `more` is in the file `/more`, by a layer of its own.
    """
    descriptors: list[dict[str, object]] = []
    children: dict[str, str] = {}
    for platform in platforms:
        names = ("os", "architecture", "variant")
        words = dict(zip(names, platform.split("/"), strict=False))
        archives = [_layer(busybox(platform)), *([packed_file("more", more)] if more else [])]
        config = {**words, "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]}}
        entry = push_image(registry, repository, config, *archives)
        children[platform] = str(entry["digest"])
        descriptors.append({**entry, "platform": words})
    return Base(
        reference=f"{registry.address}/{repository}:{tag}",
        digest=push_index(registry, repository, tag, *descriptors),
        children=children,
    )


def push_image(
    registry: Registry,
    repository: str,
    config: Mapping[str, object],
    *archives: bytes,
    target: str = "",
    config_type: str = "application/vnd.oci.image.config.v1+json",
) -> dict[str, str | int]:
    """Pushes an image with this config and these layers, packed; returns its entry in an index, without a platform.

    `target` is its tag, its digest by default.
    """
    layer_type = "application/vnd.oci.image.layer.v1.tar+gzip"
    layers = [_push_blob(registry, repository, layer_type, archive) for archive in archives]
    rootfs = {"type": "layers", "diff_ids": [_digest(gzip.decompress(archive)) for archive in archives]}
    body = _json({**config, "rootfs": rootfs})
    described = _push_blob(registry, repository, config_type, body)
    manifest = _json({"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers})
    digest = push_manifest(registry, repository, target or _digest(manifest), MANIFEST, manifest)
    return {"mediaType": MANIFEST, "digest": digest, "size": len(manifest)}


def push_index(registry: Registry, repository: str, target: str, *entries: Mapping[str, object]) -> str:
    """Puts an OCI index of these entries under a tag and returns its digest."""
    index = _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    return push_manifest(registry, repository, target, INDEX, index)


def push_manifest(registry: Registry, repository: str, target: str, media_type: str, body: bytes) -> str:
    """Puts a manifest under a tag or its digest and returns its digest."""
    _send(registry, repository, "PUT", f"{registry.url}/v2/{repository}/manifests/{target}", body, media_type)
    return _digest(body)


def _push_blob(registry: Registry, repository: str, media_type: str, body: bytes) -> dict[str, str | int]:
    digest = _digest(body)
    location = _send(registry, repository, "POST", f"{registry.url}/v2/{repository}/blobs/uploads/", b"")
    _send(registry, repository, "PUT", f"{location}&digest={digest}", body, "application/octet-stream")
    return {"mediaType": media_type, "digest": digest, "size": len(body)}


def _send(registry: Registry, repository: str, method: str, url: str, body: bytes, media_type: str = "") -> str:
    """Sends one request, allowed everything; the `Location` answered, or "". Raises HTTPError for a refusal."""
    headers = {**registry.authorization(repository), **({"Content-Type": media_type} if media_type else {})}
    with urlopen(Request(url, data=body, headers=headers, method=method), timeout=30) as response:
        location: str = response.headers.get("Location", "")
        return location


@cache
def _layer(binary: Path) -> bytes:
    """The same binary gives the same bytes."""
    with _packed() as (tar, packed):
        for folder in ("bin", "tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        entry = tarfile.TarInfo("bin/busybox")
        entry.mode, entry.size = 0o755, binary.stat().st_size
        with binary.open("rb") as file:
            tar.addfile(entry, file)
        for name in _APPLETS.split():
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return packed.getvalue()


def packed_file(name: str, content: bytes) -> bytes:
    """A layer with one file."""
    with _packed() as (tar, packed):
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


@contextmanager
def _packed() -> Iterator[tuple[tarfile.TarFile, io.BytesIO]]:
    """An archive, and its bytes when the block has ended."""
    packed = io.BytesIO()
    with (
        # No engine packs as quickly as this: it gives the layer another digest when it packs it again.
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        yield tar, packed


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
