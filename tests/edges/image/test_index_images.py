"""Indexes that no tool of ours writes, and what BuildKit takes of them: containerd's `images.Manifest`."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.image.descriptors import OCI_INDEX, OCI_MANIFEST, Manifest, sha256
from coordinator.domain.image.index import resolve
from coordinator.domain.image.platforms import parse
from coordinator.errors import RegistryError
from coordinator.image.index_images import read_index

CONFIG = "application/vnd.oci.image.config.v1+json"
NAMES = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "windows/amd64")


class Repository:
    """A repository in memory, and how often it was asked."""

    def __init__(self) -> None:
        self.content: dict[str, tuple[str, bytes]] = {}
        self.asked = 0

    def put(self, document: object, media_type: str = "") -> str:
        raw = json.dumps(document).encode()
        self.content[sha256(raw)] = (media_type, raw)
        return sha256(raw)

    def image(self, config: Mapping[str, object], seed: int = 0) -> dict[str, object]:
        """An image with this config; returns its entry, without a platform."""
        described = {"mediaType": CONFIG, "digest": self.put(config), "size": 1}
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described, "layers": [], "seed": seed}
        return {"mediaType": OCI_MANIFEST, "digest": self.put(document, OCI_MANIFEST), "size": 1}

    def index(self, *entries: Mapping[str, object]) -> dict[str, object]:
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        return {"mediaType": OCI_INDEX, "digest": self.put(document, OCI_INDEX), "size": 1}

    async def get_manifest(self, _repository: str, target: str) -> Manifest:
        self.asked += 1
        if target not in self.content:
            raise RegistryError("none", code="not_found")
        media_type, raw = self.content[target]
        return Manifest(raw=raw, media_type=media_type, digest=target)

    async def get_blob(self, _repository: str, digest: str, _limit: int) -> bytes:
        self.asked += 1
        return self.content[digest][1]


def words(name: str) -> dict[str, str]:
    return dict(zip(("os", "architecture", "variant"), name.split("/"), strict=False))


def listed(entry: Mapping[str, object], name: str) -> dict[str, object]:
    return {**entry, "platform": words(name)}


async def taken(held: Repository, index: Mapping[str, object], client: str) -> object:
    digest = str(index["digest"])
    images = await read_index(held, "base", await held.get_manifest("base", digest))
    found = images.resolve(parse(client))
    return found and found.digest


async def test_an_index_in_an_index():
    """Without a platform and with one: opened, and the image inside is taken."""
    held = Repository()
    amd64, arm64 = (held.image(words(name)) for name in ("linux/amd64", "linux/arm64"))
    inner = held.index(listed(amd64, "linux/amd64"), listed(arm64, "linux/arm64"))
    plain, one = held.index(inner), held.index(listed(inner, "linux/arm64"))

    assert await taken(held, plain, "linux/amd64") == amd64["digest"]
    assert await taken(held, plain, "linux/arm64") == arm64["digest"]
    assert await taken(held, one, "linux/arm64") == arm64["digest"]
    assert await taken(held, one, "linux/amd64") is None
    assert await taken(held, held.index(plain), "linux/arm64") == arm64["digest"]


async def test_the_best_variant_inside_is_taken():
    """The order inside of a nested index is that of the variants, not that of the document."""
    held = Repository()
    v6, v7 = (held.image(words(name)) for name in ("linux/arm/v6", "linux/arm/v7"))
    outer = held.index(held.index(listed(v6, "linux/arm/v6"), listed(v7, "linux/arm/v7")))

    assert await taken(held, outer, "linux/arm/v7") == v7["digest"]
    assert await taken(held, outer, "linux/arm/v6") == v6["digest"]


async def test_entries_without_a_platform():
    """The config decides; a listed image comes first, and a config without architecture is nobody's."""
    held = Repository()
    amd64, arm64, nameless = held.image(words("linux/amd64")), held.image(words("linux/arm64")), held.image({})
    other = held.image(words("linux/arm64"), seed=1)
    index = held.index(nameless, {**amd64, "platform": None}, arm64, listed(other, "linux/arm64"))

    assert await taken(held, index, "linux/amd64") == amd64["digest"]
    assert await taken(held, index, "linux/arm64") == other["digest"]
    assert await taken(held, index, "linux/arm/v7") is None


async def test_what_is_no_image_is_left_out():
    """Attestations, artifacts, empty platforms and what the registry lacks; none of them is an error."""
    held = Repository()
    amd64 = held.image(words("linux/amd64"))
    attestation = listed(held.image({}, seed=1), "unknown/unknown")
    unlisted = {**held.image({}, seed=2), "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    artifact = {"mediaType": "application/x", "digest": sha256(b"artifact"), "size": 1}
    empty = {**held.image(words("linux/amd64"), seed=3), "platform": {}}
    absent = {"mediaType": OCI_MANIFEST, "digest": sha256(b"absent"), "size": 1}
    index = held.index(attestation, unlisted, artifact, empty, absent, amd64)

    assert await taken(held, index, "linux/amd64") == amd64["digest"]


async def test_depth_and_count_are_bounded():
    """Neither deep nor wide indexes make us ask for ever."""
    held = Repository()
    deep = held.image(words("linux/amd64"))
    for _ in range(4):
        deep = held.index(deep)
    wide = held.index(*(held.image(words("linux/amd64"), seed=number) for number in range(40)))

    with pytest.raises(RegistryError, match="nested more than 3 deep"):
        await taken(held, deep, "linux/amd64")
    with pytest.raises(RegistryError, match="more than 32 entries"):
        await taken(held, wide, "linux/amd64")


@given(st.lists(st.sampled_from(NAMES)), st.sampled_from(NAMES))
async def test_an_ordinary_index_costs_no_request(names: list[str], client: str) -> None:
    """And its images are what `resolve` says."""
    held = Repository()
    entries = [listed(held.image({}, seed=number), name) for number, name in enumerate(names)]
    index = held.index(*entries)

    found = await taken(held, index, client)

    assert held.asked == 1
    manifest = await held.get_manifest("base", str(index["digest"]))
    images = await read_index(held, "base", manifest)
    expected = resolve(images.listed, parse(client))
    assert [image.digest for image in images.listed] == [entry["digest"] for entry in entries]
    assert found == (expected and expected.digest)
