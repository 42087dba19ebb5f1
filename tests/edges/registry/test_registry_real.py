"""The registry client, copying and reading children, against the real `docker-registry`; skopeo is the judge."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable

import pytest

from coordinator.domain.hosts.inventory import RegistrySettings
from coordinator.domain.image.descriptors import OCI_INDEX, OCI_MANIFEST, Descriptor, sha256
from coordinator.domain.image.index import Child, assemble
from coordinator.domain.image.platforms import parse
from coordinator.domain.secrets import Credential, Secret
from coordinator.errors import RegistryError
from coordinator.image.child import read_child, read_platform
from coordinator.registry.client import Registry
from coordinator.registry.copy import copy_image
from tests.services.commands import run_limited
from tests.services.fixtures import PASSWORD, PUBLIC, USER
from tests.services.missing import program
from tests.services.registry import Registry as Service
from tests.services.tokens import TokenServer

pytestmark = pytest.mark.registry

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
ARM64 = {"os": "linux", "architecture": "arm64"}
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


def known(password: str) -> Credential:
    return Credential(username=USER, password=Secret(password))


class Known:
    def __init__(self, credential: Credential | None = None) -> None:
        self.credential = credential

    def credentials(self, registry: str) -> Credential | None:  # noqa: ARG002
        return self.credential


@pytest.fixture
async def ours(registry: Service) -> AsyncIterator[Registry]:
    """Our client of the plain registry."""
    async with client(registry) as opened:
        yield opened


def client(service: Service, credential: Credential | None = None) -> Registry:
    return Registry(RegistrySettings(host=service.address), Known(credential))


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A repository nobody else uses."""
    return "tests/" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]


async def push_blob(ours: Registry, repository: str, body: bytes) -> dict[str, object]:
    async def chunks() -> AsyncIterator[bytes]:
        yield body

    await ours.upload_blob(repository, sha256(body), len(body), chunks)
    return {"digest": sha256(body), "size": len(body)}


async def push_image(
    ours: Registry, repository: str, config: dict[str, object] | bytes, config_type: str = CONFIG_TYPE
) -> Descriptor:
    """An image of one layer with this config, pushed by digest."""
    raw = config if isinstance(config, bytes) else json.dumps(config).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": config_type, **await push_blob(ours, repository, raw)},
        "layers": [{"mediaType": LAYER_TYPE, **await push_blob(ours, repository, b"a layer")}],
    }
    return await push_document(ours, repository, document)


async def push_document(ours: Registry, repository: str, document: dict[str, object]) -> Descriptor:
    raw, media_type = json.dumps(document, indent=3).encode(), str(document["mediaType"])
    digest = await ours.put_manifest(repository, sha256(raw), raw, media_type)
    return Descriptor(media_type=media_type, digest=digest, size=len(raw))


def attested(image: Descriptor, platform: dict[str, str], *others: dict[str, object]) -> dict[str, object]:
    """What Docker 29 pushes: an index of the image, and what else there is."""
    return {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [image.to_json() | {"platform": platform}, *others],
    }


def attestation_entry(attestation: Descriptor, image: str, kind: str = "attestation-manifest") -> dict[str, object]:
    return attestation.to_json() | {
        "platform": {"architecture": "unknown", "os": "unknown"},
        "annotations": {"vnd.docker.reference.type": kind, "vnd.docker.reference.digest": image},
    }


async def test_round_trip(ours: Registry, repository: str) -> None:
    """What is pushed comes back byte for byte, by digest and by tag, with its size and type."""
    image = await push_image(ours, repository, {"os": "linux", "architecture": "arm64"})
    by_digest = await ours.get_manifest(repository, image.digest)
    await ours.put_manifest(repository, "1.0", by_digest.raw, by_digest.media_type)

    assert by_digest == await ours.get_manifest(repository, "1.0")
    assert image == by_digest.descriptor
    assert image == await ours.head_manifest(repository, "1.0")
    assert await ours.head_manifest(repository, "2.0") is None
    assert await ours.head_manifest("tests/nothing-here", "1.0") is None


async def test_blobs(ours: Registry, repository: str) -> None:
    """A blob is there after it is uploaded, can be mounted from there, and comes back in chunks."""
    body = bytes(range(256)) * 40_000
    digest = sha256(body)
    assert not await ours.blob_exists(repository, digest)
    assert not await ours.mount_blob(f"{repository}/other", digest, repository)

    await push_blob(ours, repository, body)

    assert await ours.blob_exists(repository, digest)
    assert await ours.mount_blob(f"{repository}/other", digest, repository)
    assert await ours.blob_exists(f"{repository}/other", digest)
    assert body == b"".join([chunk async for chunk in ours.stream_blob(repository, digest)])


async def test_missing_child(ours: Registry, repository: str) -> None:
    """An index whose child is not there is refused by the registry, which says which."""
    missing = Descriptor(media_type=OCI_MANIFEST, digest=sha256(b"missing"), size=7)
    index = assemble([Child(platform=parse("linux/arm64"), descriptor=missing)])

    with pytest.raises(RegistryError) as refused:
        await ours.put_manifest(repository, "1.0", index.raw, index.media_type)

    assert refused.value.code == "blob_unknown"
    assert missing.digest in refused.value.message


async def test_check_push(ours: Registry, repository: str, registry: Service) -> None:
    """A registry without credentials lets us push; the upload that showed it is gone."""
    await ours.check_reachable()
    await ours.check_push(repository)

    assert (await ours.authorization(repository, ("pull", "push"))).headers == {}
    assert ours.endpoint.url == f"http://{registry.address}"


@pytest.mark.parametrize("kind", ["password_registry", "token_registry"])
async def test_credentials(request: pytest.FixtureRequest, kind: str, repository: str) -> None:
    """A registry that wants to know who we are refuses nobody's and the wrong password, and takes the right one."""
    service: Service = request.getfixturevalue(kind)
    for password in ("", "wrong"):
        async with client(service, known(password) if password else None) as ours:
            await ours.check_reachable()
            with pytest.raises(RegistryError) as refused:
                await ours.check_push(repository)
        assert (refused.value.code, refused.value.hint) == ("unauthorized", f"docker login {service.address}")

    async with client(service, known(PASSWORD)) as ours:
        await ours.check_push(repository)
        image = await push_image(ours, repository, ARM64)
        assert image == await copy_image(ours, repository, image.digest, ours, f"{repository}/copy")


async def test_tokens(token_registry: Service, tokens: TokenServer, repository: str) -> None:
    """A token serves all requests of its scope; a mount's is for both repositories; a dead one is replaced."""
    async with client(token_registry, known(PASSWORD)) as ours:
        image = await push_image(ours, repository, ARM64)
        await ours.get_manifest(repository, image.digest)
        await ours.get_manifest(repository, image.digest)
        assert [(f"repository:{repository}:pull,push",), (f"repository:{repository}:pull",)] == [
            asked.scopes for asked in tokens.requests
        ]
        assert await ours.mount_blob(f"{repository}/copy", sha256(b"a layer"), repository)
        assert tokens.requests[-1].scopes == (
            f"repository:{repository}/copy:pull,push",
            f"repository:{repository}:pull",
        )


async def test_dead_tokens(token_registry: Service, tokens: TokenServer, repository: str) -> None:
    """A token server that hands out dead tokens is found out after one of them."""
    tokens.expires_in = -120
    async with client(token_registry, known(PASSWORD)) as ours:
        with pytest.raises(RegistryError) as refused:
            await ours.check_push(repository)

    assert (refused.value.code, len(tokens.requests)) == ("unauthorized", 1)


async def test_public_repository(token_registry: Service, tokens: TokenServer) -> None:
    """What anybody may pull is pulled without credentials, through an anonymous token."""
    async with client(token_registry, known(PASSWORD)) as ours:
        image = await push_image(ours, PUBLIC, ARM64)
    async with client(token_registry) as anonymous:
        assert image == await anonymous.head_manifest(PUBLIC, image.digest)
        with pytest.raises(RegistryError) as refused:
            await anonymous.check_push(PUBLIC)

    assert refused.value.code in {"unauthorized", "denied"}
    assert tokens.requests[-1].user == ""


async def test_index_for_a_judge(ours: Registry, repository: str, registry: Service) -> None:
    """What we assemble is what skopeo reads: each platform gets its own image."""
    skopeo = program("skopeo")
    platforms = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6")
    children = []
    for text in platforms:
        platform = parse(text)
        config = {"os": platform.os, "architecture": platform.architecture, "variant": platform.variant}
        config |= {
            "rootfs": {"type": "layers", "diff_ids": [sha256(text.encode())]},
            "config": {"Labels": {"is": text}},
        }
        image = await push_image(ours, repository, config)
        verified = await read_child(ours, repository, image.digest, platform)
        children.append(verified.child)
    index = assemble(children)
    await ours.put_manifest(repository, "1.0", index.raw, index.media_type)

    for text in platforms:
        _, architecture, *variant = text.split("/")
        argv = [skopeo, "--override-os=linux", f"--override-arch={architecture}"]
        argv += [f"--override-variant={variant[0]}"] if variant else []
        argv += ["inspect", "--config", "--tls-verify=false", f"docker://{registry.address}/{repository}:1.0"]
        found = await asyncio.to_thread(run_limited, argv, capture_output=True, check=True)
        assert text == json.loads(found.stdout)["config"]["Labels"]["is"]


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
    config = json.dumps({"os": "linux", "architecture": "arm64", "variant": "v8"}).encode()
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


async def test_copy(ours: Registry, repository: str, own_registry: Callable[[], Service]) -> None:
    """An index is copied with all below it, by mount on one registry, by stream to another, and again at no cost."""
    image = await push_image(ours, repository, {"os": "linux", "architecture": "arm64"})
    pushed = await push_document(ours, repository, attested(image, ARM64))
    before = await ours.get_manifest(repository, pushed.digest)

    async with client(own_registry()) as other:
        for into, target in ((ours, f"{repository}/copy"), (other, "copied"), (other, "copied")):
            copied = await copy_image(ours, repository, pushed.digest, into, target)

            assert pushed == copied
            assert before == await into.get_manifest(target, pushed.digest)
            found = await read_child(into, target, pushed.digest, parse("linux/arm64"))
            assert image == found.descriptor


async def test_copy_of_what_is_missing(ours: Registry, repository: str) -> None:
    """A copy that cannot be complete says so, in one error of ours."""
    with pytest.raises(RegistryError) as refused:
        await copy_image(ours, repository, sha256(b"missing"), ours, f"{repository}/copy")

    assert refused.value.code == "not_found"
