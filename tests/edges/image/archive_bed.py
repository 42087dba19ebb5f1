"""Archives of images as engines write them, and worse; and a repository in memory to carry them to."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from coordinator.domain.image.descriptors import OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
GZIPPED = "application/vnd.oci.image.layer.v1.tar+gzip"
BARE = "application/vnd.oci.image.layer.v1.tar"
Members = dict[str, bytes | tarfile.TarInfo]


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def dump(value: object) -> bytes:
    return json.dumps(value).encode()


def layer(**files: bytes) -> bytes:
    """A layer as engines have it: a bare tar, as short as it can be."""
    return tar(files)


def tar(members: Mapping[str, bytes | tarfile.TarInfo], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as made:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                made.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
        size = made.offset + 1024
    return buffer.getvalue()[:size]


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def config(*layers: bytes) -> bytes:
    return dump(
        {
            "os": "linux",
            "architecture": "arm64",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [sha256(one) for one in layers]},
        }
    )


def docker(*layers: bytes) -> Members:
    """As Docker 20.10 has it: folders by legacy ids, a layer that was there before as a link, the documents last."""
    members: Members = {}
    names: list[str] = []
    first: dict[bytes, str] = {}
    for number, one in enumerate(layers):
        folder = f"{number:064x}"
        members[f"{folder}/VERSION"] = b"1.0"
        members[f"{folder}/json"] = b"{}"
        names.append(f"{folder}/layer.tar")
        members[names[-1]] = link(names[-1], f"../{first[one]}") if one in first else one
        first.setdefault(one, names[-1])
    document = config(*layers)
    name = f"{sha256(document)[7:]}.json"
    members[name] = document
    members["manifest.json"] = dump([{"Config": name, "RepoTags": ["archloom/x:1"], "Layers": names}])
    members["repositories"] = dump({"archloom/x": {"1": "0"}})
    return members


@dataclass(frozen=True)
class Oci:
    """An OCI layout, and the digests of what it is of."""

    members: Members
    image: str
    top: str
    config: str


def oci(*layers: bytes, media_type: str = GZIPPED, attested: bool = False, also: Iterable[bytes] = ()) -> Oci:
    """As Docker 25 and newer have it; `attested` puts the image and what speaks of it into an index of their own."""
    blobs: list[bytes] = []

    def blob(data: bytes, kind: str, **extra: object) -> dict[str, object]:
        blobs.append(data)
        return {"mediaType": kind, "digest": sha256(data), "size": len(data), **extra}

    kept = [one if media_type == BARE else gzip.compress(one, mtime=0) for one in layers]
    document = config(*layers)
    image = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": blob(document, CONFIG_TYPE),
        "layers": [blob(one, media_type) for one in kept],
        "annotations": {"kept": "byte for byte"},
    }
    entry = blob(dump(image), OCI_MANIFEST)
    digest = str(entry["digest"])
    if attested:
        statement = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": blob(b'{"a":1}', CONFIG_TYPE),
            "layers": [blob(b'{"predicate":{}}', "application/vnd.in-toto+json")],
        }
        notes = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": digest}
        unknown = {"os": "unknown", "architecture": "unknown"}
        entries = [
            {**entry, "platform": {"os": "linux", "architecture": "arm64"}},
            blob(dump(statement), OCI_MANIFEST, annotations=notes, platform=unknown),
            *({**blob(one, OCI_MANIFEST), "platform": {"os": "linux", "architecture": "amd64"}} for one in also),
        ]
        entry = blob(dump({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}), OCI_INDEX)
    members: Members = {f"blobs/sha256/{sha256(one)[7:]}": one for one in sorted(blobs, key=sha256)}
    names = ({**entry, "annotations": {"io.containerd.image.name": name}} for name in ("a:1", "a:2"))
    members["index.json"] = dump({"schemaVersion": 2, "manifests": list(names)})
    members["oci-layout"] = dump({"imageLayoutVersion": "1.0.0"})
    return Oci(members, digest, str(entry["digest"]), sha256(document))


async def chopped(data: bytes, at: Iterable[int] = ()) -> AsyncGenerator[bytes]:
    places = [0, *sorted(place for place in at if place <= len(data)), len(data)]
    for start, stop in pairwise(places):
        yield data[start:stop]


@dataclass
class MemorySink:
    """A repository as `image.sink.Sink` has it, which counts what is uploaded."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    layers: dict[str, Descriptor] = field(default_factory=dict)
    uploads: int = 0

    async def has(self, digest: str) -> bool:
        return digest in self.blobs

    async def put(self, digest: str, size: int, chunks: Callable[[], AsyncGenerator[bytes]]) -> None:
        data = b"".join([chunk async for chunk in chunks()])
        # As often as it is tried.
        assert data == b"".join([chunk async for chunk in chunks()])
        assert (sha256(data), len(data)) == (digest, size)
        self.uploads += 1
        self.blobs[digest] = data

    async def put_manifest(self, manifest: Manifest) -> None:
        document = json.loads(manifest.raw)
        for part in (*document.get("layers", ()), *filter(None, [document.get("config")])):
            assert len(self.blobs[part["digest"]]) == part["size"]
        assert all(entry["digest"] in self.manifests for entry in document.get("manifests", ()))
        self.manifests[manifest.digest] = manifest

    async def layer(self, diff_id: str) -> Descriptor | None:
        return self.layers.get(diff_id)

    def remember(self, diff_id: str, layer: Descriptor) -> None:
        self.layers[diff_id] = layer
