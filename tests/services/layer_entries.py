"""What is in an image, layer by layer, as its tar entries and its configuration have it."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.request import Request, urlopen

from tests.services.commands import run_limited
from tests.services.images import INDEX, MANIFEST
from tests.services.missing import program
from tests.services.registry import Registry

_DOCKER = "application/vnd.docker.distribution.manifest"
_ACCEPT = ",".join((INDEX, MANIFEST, f"{_DOCKER}.v2+json", f"{_DOCKER}.list.v2+json"))
# PAX fields that only say again what an entry has.
_SAID = frozenset({"path", "linkpath", "mtime", "atime", "ctime", "size"})


class Entry(NamedTuple):
    """A tar entry. `content` is the sha256 of a file. `mtime` is None for a folder: BuildKit sets it by chance.

    `owner` has uid and gid, and `more` the PAX fields that are left, such as extended attributes.
    """

    name: str
    kind: bytes
    mode: int
    owner: tuple[int, int]
    mtime: float | None
    target: str
    content: str
    more: tuple[tuple[str, str], ...]


class Image(NamedTuple):
    """The configuration without what differs from build to build, and the entries of each layer."""

    config: dict[str, Any]
    layers: list[list[Entry]]


def saved(socket: Path, image: str, folder: Path) -> Image:
    """The image as an engine's `docker save` has it; `folder` takes the archive for a while."""
    archive = folder / "saved.tar"
    command = [program("docker"), "--host", f"unix://{socket}", "save", "--output", str(archive), image]
    run_limited(command, check=True, capture_output=True)
    try:
        with tarfile.open(archive) as outer:
            [listed] = json.load(_member(outer, "manifest.json"))
            config = json.load(_member(outer, listed["Config"]))
            return Image(_lasting(config), [list(entries(_member(outer, layer))) for layer in listed["Layers"]])
    finally:
        archive.unlink()


def published(registry: Registry, repository: str, tag: str) -> Image:
    """The only image of an index in a plain registry."""
    manifest = _get(registry, f"{repository}/manifests/{tag}")
    if "manifests" in manifest:
        [child] = manifest["manifests"]
        manifest = _get(registry, f"{repository}/manifests/{child['digest']}")
    config = _get(registry, f"{repository}/blobs/{manifest['config']['digest']}")
    layers = []
    for layer in manifest["layers"]:
        with _open(registry, f"{repository}/blobs/{layer['digest']}") as blob:
            layers.append(list(entries(blob)))
    return Image(_lasting(config), layers)


def entries(layer: IO[bytes]) -> Iterator[Entry]:
    """The entries of a layer, packed or not."""
    with tarfile.open(fileobj=layer, mode="r|*", encoding="utf-8", errors="surrogateescape") as archive:
        for one in archive:
            yield Entry(
                name=one.name,
                kind=one.type,
                mode=one.mode & 0o7777,  # some engines add the bits of the type
                owner=(one.uid, one.gid),
                mtime=None if one.isdir() else one.mtime,
                target=one.linkname,
                content=hashlib.file_digest(_member(archive, one), "sha256").hexdigest() if one.isreg() else "",
                more=tuple(sorted((key, value) for key, value in one.pax_headers.items() if key not in _SAID)),
            )


def _member(archive: tarfile.TarFile, name: str | tarfile.TarInfo) -> Any:
    found = archive.extractfile(name)
    assert found is not None
    return found


def _get(registry: Registry, path: str) -> dict[str, Any]:
    with _open(registry, path) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def _open(registry: Registry, path: str) -> Any:
    return urlopen(Request(f"{registry.url}/v2/{path}", headers={"Accept": _ACCEPT}), timeout=30)


def _lasting(config: dict[str, Any]) -> dict[str, Any]:
    """Without times, and without digests of layers, which have times in them."""
    history = [{key: value for key, value in one.items() if key != "created"} for one in config.get("history", [])]
    kept = {key: value for key, value in config.items() if key not in {"created", "rootfs", "history"}}
    return {**kept, "history": history}
