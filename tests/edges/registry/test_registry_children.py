"""Children as a real registry has them: which are verified, and why others are not."""

from __future__ import annotations

import pytest

from coordinator.domain.image.descriptors import OCI_INDEX, OCI_MANIFEST, sha256
from coordinator.domain.image.index import assemble
from coordinator.domain.image.platforms import parse
from coordinator.errors import RegistryError
from coordinator.image.child import read_child, read_platform
from coordinator.publish.pins import good_child
from coordinator.registry.client import Registry
from tests.edges.registry.real_registry import (
    ARM64,
    CONFIG_TYPE,
    LAYER_TYPE,
    attestation_entry,
    attested,
    config_bytes,
    push_blob,
    push_document,
    push_image,
)

pytestmark = pytest.mark.registry


async def test_child_inside_an_index(ours: Registry, repository: str) -> None:
    """Where an engine pushes an index, the image inside is the child, and its attestations follow; others do not."""
    image = await push_image(ours, repository, {"os": "linux", "architecture": "arm64", "variant": "v8"})
    speaks = await push_image(ours, repository, {"about": "the image"})
    other = await push_image(ours, repository, {"about": "another image"})
    entries = [
        attestation_entry(speaks, image.digest),
        attestation_entry(other, sha256(b"another")),
        attestation_entry(other, image.digest, "something-newer"),
    ]
    pushed = await push_document(ours, repository, attested(image, {"os": "linux", "architecture": "arm64"}, *entries))

    found = await read_child(ours, repository, pushed.digest, parse("linux/arm64"))

    assert image == found.descriptor
    assert [speaks.digest] == [entry.digest for entry in found.attestations]
    assert assemble([found.child]).media_type == OCI_INDEX
    config = config_bytes({"os": "linux", "architecture": "arm64", "variant": "v8"})
    assert (sha256(config), len(config) + len(b"a layer")) == (found.config_digest, found.size)


@pytest.mark.parametrize(
    ("config", "wanted", "said"),
    [
        ({"os": "linux", "architecture": "arm64"}, "linux/arm64", None),
        ({"os": "linux", "architecture": "arm64", "variant": "v8"}, "linux/arm64", None),
        ({"os": "linux", "architecture": "amd64"}, "linux/amd64", None),
        ({"os": "linux", "architecture": "arm", "variant": "v6"}, "linux/arm/v6", None),
        ({"os": "linux", "architecture": "arm"}, "linux/arm/v7", None),
        ({"os": "linux", "architecture": "arm"}, "linux/arm/v6", "linux/arm/v7, expected linux/arm/v6"),
        ({"os": "linux", "architecture": "arm", "variant": "v7"}, "linux/arm/v6", "linux/arm/v7"),
        ({"os": "linux", "architecture": "amd64"}, "linux/arm64", "linux/amd64, expected linux/arm64"),
        ({"os": "windows", "architecture": "amd64"}, "linux/amd64", "windows/amd64"),
        ({"os": "linux"}, "linux/amd64", "missing"),
        ({}, "linux/amd64", "missing"),
    ],
)
async def test_platform_of_a_child(
    ours: Registry, repository: str, config: dict[str, object], wanted: str, said: str | None
) -> None:
    """An image's config has to say the platform that was asked for, by every client's reading of it."""
    image = await push_image(ours, repository, config)

    if said is None:
        found = await read_child(ours, repository, image.digest, parse(wanted))
        assert parse(wanted) == found.platform
        manifest = await ours.get_manifest(repository, image.digest)
        assert parse(wanted) == await read_platform(ours, repository, manifest)
    else:
        with pytest.raises(RegistryError, match=rf"is {said}") as refused:
            await read_child(ours, repository, image.digest, parse(wanted))
        assert refused.value.code == "mismatch"


@pytest.mark.parametrize(
    ("config", "config_type", "code"),
    [
        (b"not json", CONFIG_TYPE, "malformed"),
        (b"[]", CONFIG_TYPE, "malformed"),
        ({"os": "linux", "architecture": "amd64"}, "application/vnd.oci.empty.v1+json", "mismatch"),
    ],
)
async def test_no_child(
    ours: Registry, repository: str, config: dict[str, object] | bytes, config_type: str, code: str
) -> None:
    """An artifact, or a config that is none, is no child."""
    image = await push_image(ours, repository, config, config_type)

    with pytest.raises(RegistryError) as refused:
        await read_child(ours, repository, image.digest, parse("linux/amd64"))

    assert code == refused.value.code


@pytest.mark.parametrize("diff_ids", [[], ["sha256:1", "sha256:2"], None, "none"])
async def test_diff_ids_that_do_not_fit_the_layers(ours: Registry, repository: str, diff_ids: object) -> None:
    """No engine could unpack it: it takes one for each layer."""
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    image = await push_image(ours, repository, config)

    with pytest.raises(RegistryError, match="has 1 layers, and its config has") as refused:
        await read_child(ours, repository, image.digest, parse("linux/amd64"))

    assert refused.value.code == "mismatch"


@pytest.mark.parametrize("size", [1, 8, 1 << 40])
async def test_a_layer_of_another_size_than_is_listed(ours: Registry, repository: str, size: int) -> None:
    """The registry accepts such a manifest, and engines break off when they pull it."""
    raw = config_bytes({"os": "linux", "architecture": "amd64"})
    layer = {"mediaType": LAYER_TYPE, **await push_blob(ours, repository, b"a layer")}
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": CONFIG_TYPE, **await push_blob(ours, repository, raw)},
        "layers": [layer | {"size": size}],
    }
    image = await push_document(ours, repository, document)

    with pytest.raises(RegistryError, match=f"with {size} bytes, and it has 7") as refused:
        await read_child(ours, repository, image.digest, parse("linux/amd64"))
    assert refused.value.code == "mismatch"
    assert await good_child(ours, repository, image.digest, parse("linux/amd64")) is None
    # Asked for once: what has this digest has always been so.
    assert await good_child(ours, repository, image.digest, parse("linux/amd64"), sizes=False)


async def test_a_config_without_a_type_of_its_own(ours: Registry, repository: str) -> None:
    """Some engines call it bytes. It is an image where the config has a platform."""
    image = await push_image(ours, repository, ARM64, "application/octet-stream")
    blob = await push_image(ours, repository, {"about": "no image"}, "application/octet-stream")

    assert (await read_child(ours, repository, image.digest, parse("linux/arm64"))).descriptor == image
    with pytest.raises(RegistryError, match="is missing"):
        await read_child(ours, repository, blob.digest, parse("linux/arm64"))


async def test_platform_that_is_not_said(ours: Registry, repository: str) -> None:
    """An image that says no platform has none to show."""
    image = await push_image(ours, repository, {})
    manifest = await ours.get_manifest(repository, image.digest)

    with pytest.raises(RegistryError, match="has no platform in its config"):
        await read_platform(ours, repository, manifest)


async def test_index_of_several_images(ours: Registry, repository: str) -> None:
    """An index of two images, of none, or of an index is no child."""
    one = await push_image(ours, repository, {"os": "linux", "architecture": "amd64"})
    two = await push_image(ours, repository, {"os": "linux", "architecture": "arm64"})
    amd64 = {"os": "linux", "architecture": "amd64"}
    both = await push_document(ours, repository, attested(one, amd64, two.to_json() | {"platform": ARM64}))
    none = await push_document(ours, repository, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})
    nested = await push_document(ours, repository, attested(both, amd64))

    for pushed, said in ((both, "linux/amd64, linux/arm64"), (none, "no image"), (nested, "index of indexes")):
        with pytest.raises(RegistryError, match=said):
            await read_child(ours, repository, pushed.digest, parse("linux/amd64"))
