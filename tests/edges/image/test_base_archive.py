"""Bases as archives: what is written is what the registry has, and what it does on the way."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import AsyncGenerator

import pytest

from coordinator.domain.image.descriptors import OCI_MANIFEST, Manifest, read_manifest
from coordinator.errors import RegistryError
from coordinator.image.base import base_archive, read_base
from coordinator.run.inputs.content_cache import CachedContent, ContentCache
from tests.edges.image.archive_bed import CONFIG_TYPE, GZIPPED, config, dump, layer, sha256

ONE, TWO = layer(a=b"a" * 5000), layer(b=b"b")
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"


class Source:
    """One image in a registry; `breaks` are the counts of bytes after which each answer breaks off."""

    def __init__(self, media_type: str = GZIPPED, *, breaks: tuple[int, ...] = (), extra: int = 0) -> None:
        kept = [gzip.compress(one, mtime=0) for one in (ONE, TWO)]
        document = config(ONE, TWO)
        self.blobs = {sha256(one): one for one in (document, *kept)}
        self.breaks = list(breaks)
        self.asked: list[str] = []
        raw = dump(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": {"mediaType": CONFIG_TYPE, "digest": sha256(document), "size": len(document)},
                "layers": [{"mediaType": media_type, "digest": sha256(one), "size": len(one) + extra} for one in kept],
            }
        )
        self.manifest = read_manifest(raw, OCI_MANIFEST, "the base")

    async def get_manifest(self, repository: str, target: str) -> Manifest:
        assert (repository, target) == ("base", self.manifest.digest)
        return self.manifest

    async def get_blob(self, repository: str, digest: str, limit: int) -> bytes:
        assert repository == "base"
        assert len(self.blobs[digest]) <= limit
        return self.blobs[digest]

    async def stream_blob(self, repository: str, digest: str) -> AsyncGenerator[bytes]:
        assert repository == "base"
        self.asked.append(digest)
        data = self.blobs[digest]
        end = self.breaks.pop(0) if self.breaks else len(data)
        for start in range(0, min(end, len(data)), 7):
            yield data[start : min(start + 7, end)]
        if end < len(data):
            raise RegistryError("the connection broke", code="broken")


async def written(source: Source, *held: str) -> bytes:
    image = await read_base(source, "base", source.manifest.digest)
    return b"".join([piece async for piece in base_archive([(name, image) for name in held])])


async def test_an_archive_has_every_blob_once_and_its_documents_last():
    """Two names of one image share its layers; config and layers are the registry's own bytes."""
    source = Source()

    with tarfile.open(fileobj=io.BytesIO(await written(source, "a:1", "b:2"))) as made:
        names = made.getnames()
        listed = json.load(made.extractfile("manifest.json"))
        blobs = {sha256(made.extractfile(name).read()) for name in names[:-1]}

    assert names[-1] == "manifest.json"
    assert len(names) == 4
    assert blobs == set(source.blobs)
    assert [image["RepoTags"] for image in listed] == [["a:1"], ["b:2"]]
    assert {*listed[0]["Layers"], listed[0]["Config"]} == set(names[:-1])


@pytest.mark.parametrize("breaks", [(3,), (1000, 20), (1000, 20, 10**6, 5)])
async def test_a_connection_that_breaks_is_taken_up_where_it_was(breaks):
    """The archive is the same to the byte."""
    assert await written(Source(breaks=breaks), "a:1") == await written(Source(), "a:1")


async def test_a_registry_that_always_breaks_off_is_given_up():
    """After three tries at one blob."""
    source = Source(breaks=(3,) * 9)

    with pytest.raises(RegistryError, match="broke"):
        await written(source, "a:1")
    assert len(source.asked) == 3


@pytest.mark.parametrize("extra", [1, -1])
async def test_a_blob_of_another_size_is_refused(extra):
    """A header's size cannot be taken back."""
    with pytest.raises(RegistryError, match="expected"):
        await written(Source(extra=extra), "a:1")


async def test_layers_that_older_engines_cannot_load_are_known_before():
    """By what the manifest calls them."""
    for media_type, is_zstd in ((GZIPPED, False), (ZSTD, True)):
        source = Source(media_type)
        assert (await read_base(source, "base", source.manifest.digest)).is_zstd is is_zstd


async def test_a_config_of_our_own_takes_the_registry_s_place():
    """The layers are the registry's, and its config is not asked for."""
    source = Source()
    image = (await read_base(source, "base", source.manifest.digest)).with_config(b'{"os":"other"}')

    archive = b"".join([piece async for piece in base_archive([("a:1", image)])])

    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        listed = json.load(tar.extractfile("manifest.json"))
        assert listed[0]["Config"] == sha256(b'{"os":"other"}').removeprefix("sha256:") + ".json"
        assert tar.extractfile(listed[0]["Config"]).read() == b'{"os":"other"}'
    assert source.asked == [layer.digest for layer in image.layers]


async def test_what_is_kept_is_not_asked_for_again(tmp_path):
    """Docker Hub counts every GET of a manifest as a pull; only the layers are streamed from it."""

    class Kept(Source):
        async def get_manifest(self, repository: str, target: str) -> Manifest:
            raise AssertionError(f"asked for {repository}@{target}")

        get_blob = get_manifest

    source, cache = Source(), ContentCache(tmp_path)
    first = await read_base(source, "base", source.manifest.digest, CachedContent(source, cache))

    kept = Kept()
    again = await read_base(kept, "base", kept.manifest.digest, CachedContent(kept, cache))

    assert (again.source, again.layers, again.diff_ids) == (kept, first.layers, first.diff_ids)
