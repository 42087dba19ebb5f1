"""The registry client, copying and reading children, against the real `docker-registry`; skopeo is the judge."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from coordinator.domain.image.descriptors import OCI_MANIFEST, Descriptor, sha256
from coordinator.domain.image.index import Child, assemble
from coordinator.domain.image.platforms import parse
from coordinator.errors import RegistryError
from coordinator.image.child import read_child
from coordinator.registry.client import Registry
from coordinator.registry.copy import copy_image
from tests.edges.registry.real_registry import (
    ARM64,
    attested,
    client,
    known,
    push_blob,
    push_document,
    push_image,
)
from tests.services.commands import run_limited
from tests.services.fixtures import PASSWORD, PUBLIC
from tests.services.missing import program
from tests.services.registry import Registry as Service
from tests.services.tokens import TokenServer

pytestmark = pytest.mark.registry


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
