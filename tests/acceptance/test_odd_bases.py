"""Bases that no current tool would push, built as `docker build` builds them, on the real engine."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from urllib.request import urlopen

import pytest

from tests.acceptance.archloom import context, good
from tests.services.images import packed_file, push_image, push_index
from tests.services.judges import skopeo_raw
from tests.services.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.registry, pytest.mark.usefixtures("nothing_left")]

PLATFORMS = ("linux/amd64", "linux/arm64")
AMD64 = {"os": "linux", "architecture": "amd64"}
ARM64 = {"os": "linux", "architecture": "arm64", "variant": None}


def published(registry: Registry, repository: str) -> dict[str, tuple[dict[str, object], dict[str, bytes]]]:
    """The config and the files of each platform's image below the tag 1."""
    found = {}
    for entry in json.loads(skopeo_raw(f"{registry.address}/{repository}:1"))["manifests"]:
        manifest = json.loads(skopeo_raw(f"{registry.address}/{repository}@{entry['digest']}"))
        config = json.loads(_blob(registry, repository, manifest["config"]["digest"]))
        files: dict[str, bytes] = {}
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=io.BytesIO(gzip.decompress(_blob(registry, repository, layer["digest"])))) as tar:
                files |= {one.name: tar.extractfile(one).read() for one in tar if one.isfile()}
        found[f"{entry['platform']['os']}/{entry['platform']['architecture']}"] = (config, files)
    return found


def _blob(registry: Registry, repository: str, digest: str) -> bytes:
    with urlopen(f"{registry.url}/v2/{repository}/blobs/{digest}", timeout=30) as answer:
        return answer.read()


def build(home, registry: Registry, folder, repository: str) -> dict[str, tuple[dict[str, object], dict[str, bytes]]]:
    tag = f"{registry.address}/{repository}:1"
    good(home.run("build", str(folder), "-t", tag, "--platform", ",".join(PLATFORMS)))
    return published(registry, repository)


def test_an_image_of_one_platform_is_a_source_of_every_build(registry, home, tmp_path):
    """`COPY --from` and FROM of a single amd64 manifest, for amd64 and arm64, and of one whose config names nothing."""
    tool = push_image(registry, "odd/tool", AMD64, packed_file("tool", b"tool"), target="1")
    config = {**AMD64, "os.version": "5", "config": {"Env": ["PATH=/bin", "FROM=amd64"]}}
    push_image(registry, "odd/base", config, packed_file("base", b"base"), target="1")
    push_image(registry, "odd/nameless", {}, packed_file("nameless", b"nameless"), target="1")
    names = {name: f"{registry.address}/odd/{name}" for name in ("tool", "base", "nameless")}
    text = f"FROM {names['base']}:1\nCOPY --from={names['tool']}@{tool['digest']} /tool /\n"
    folder = context(
        tmp_path / "src", text + f"COPY --from={names['nameless']}:1 /nameless /\nCOPY mine /\n", {"mine": "m"}
    )

    images = build(home, registry, folder, "odd/one")

    assert set(images) == set(PLATFORMS)
    for platform, (config, files) in images.items():
        assert f"{config['os']}/{config['architecture']}" == platform
        assert "FROM=amd64" in config["config"]["Env"]
        assert files == {"base": b"base", "tool": b"tool", "nameless": b"nameless", "mine": b"m"}


def test_odd_indexes_are_built_from(registry, home, tmp_path):
    """An index in an index, and entries without a platform: each build gets its own platform's image."""
    words = {"linux/amd64": AMD64, "linux/arm64": ARM64}
    entries = {one: push_image(registry, "odd/index", words[one], packed_file("is", one.encode())) for one in PLATFORMS}
    inner = push_index(registry, "odd/index", "inner", *({**entries[one], "platform": words[one]} for one in PLATFORMS))
    kind = "application/vnd.oci.image.index.v1+json"
    push_index(registry, "odd/index", "nested", {"mediaType": kind, "digest": inner, "size": 1})
    push_index(registry, "odd/index", "bare", *entries.values())
    name = f"{registry.address}/odd/index"
    folder = context(tmp_path / "src", f"FROM {name}:nested\nCOPY --from={name}:bare /is /bare\n")

    images = build(home, registry, folder, "odd/two")

    assert {one: files for one, (_, files) in images.items()} == {
        one: {"is": one.encode(), "bare": one.encode()} for one in PLATFORMS
    }
