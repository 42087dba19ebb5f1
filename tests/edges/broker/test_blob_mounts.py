"""Layers of a job's bases, mounted when the engine asks for them before it sends them; and nothing else is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from coordinator.broker.grant import Grant
from coordinator.domain.image.descriptors import OCI_MANIFEST, sha256
from coordinator.domain.image.references import Reference
from coordinator.domain.secrets import Credential, Secret
from tests.edges.broker.broker_bed import CONFIG, LAYER, MANIFEST, Answer, Bed, Script, brokered, of, refused
from tests.edges.registry.scripted_server import Reply, Scripted, scripted
from tests.services.fixtures import PASSWORD, USER
from tests.services.images import Base, base_image
from tests.services.judges import skopeo_raw
from tests.services.registry import Registry

BASE = "/v2/lib/base"
UPLOADS = "/v2/team/app/blobs/uploads/"
PLACES = [f"/v2/push/blobs/{sha256(blob)}" for blob in (LAYER, CONFIG)]


async def head(bed: Bed, grant: Grant, path: str) -> Answer:
    """What an engine is told that asks for a blob on a connection of its own."""
    async with bed.board(grant) as board:
        return await board.ask("HEAD", path)


def child_of(base: Base, platform: str) -> Reference:
    host, _, repository = base.reference.rpartition(":")[0].partition("/")
    return Reference(host, repository, digest=base.children[platform])


def layer_of(child: Reference, credentials: str = "") -> tuple[str, int]:
    name = f"{child.registry}/{child.repository}@{child.digest}"
    [layer] = json.loads(skopeo_raw(name, credentials=credentials))["layers"]
    return f"/v2/push/blobs/{layer['digest']}", layer["size"]


@pytest.mark.registry
async def test_a_base_s_layer_is_there_when_it_is_asked_for(registry: Registry) -> None:
    """Nothing is sent; of the base's repository, only what is the base's own can be had."""
    base = base_image(registry, "linux/amd64", "linux/arm64", repository="mounts/base")
    ours, other = child_of(base, "linux/amd64"), child_of(base, "linux/arm64")
    path, size = layer_of(ours)
    async with brokered() as bed:
        push = Reference(registry.address, "mounts/app")
        with bed.broker.grant("job1", push=push, mount_from=[ours]) as grant:
            answers = [await head(bed, grant, path) for path in (path, path, layer_of(other)[0])]
        with bed.broker.grant("job2", push=push) as grant:
            answers += [await head(bed, grant, layer_of(other)[0])]

    assert [answer.status for answer in answers] == [200, 200, 404, 404]
    assert answers[0].headers["content-length"] == str(size)
    assert not registry.uploads("mounts/app")
    assert not list(registry.storage.glob("docker/registry/v2/repositories/mounts/app/_uploads/*"))


@pytest.mark.registry
async def test_a_token_for_both_repositories_is_fetched(token_registry: Registry) -> None:
    """A mount reads one repository and writes the other."""
    base = base_image(token_registry, "linux/amd64", repository="private/base")
    ours = child_of(base, "linux/amd64")
    path, _ = layer_of(ours, f"{USER}:{PASSWORD}")
    async with brokered(Credential(username=USER, password=Secret(PASSWORD))) as bed:
        push = Reference(token_registry.address, "team/app")
        with bed.broker.grant("job1", push=push, mount_from=[ours]) as grant:
            answer = await head(bed, grant, path)

    assert (answer.status, grant.refusal) == (200, None)


@pytest.mark.registry
async def test_a_base_of_another_registry_is_not_asked_for(registry: Registry, own_registry) -> None:
    """A repository of the same name is not the base's."""
    elsewhere = own_registry()
    ours = child_of(base_image(elsewhere, "linux/amd64", repository="mounts/same"), "linux/amd64")
    base_image(registry, "linux/amd64", repository="mounts/same")
    async with brokered() as bed:
        with bed.broker.grant("job1", push=Reference(registry.address, "mounts/no"), mount_from=[ours]) as grant:
            answer = await head(bed, grant, layer_of(ours)[0])

    assert answer.status == 404


def lacking(mounted: Reply) -> Script:
    """A registry that has the base, and neither of its blobs in `team/app`; `mounted` is what it says to a mount."""
    script = Script().on(f"POST {UPLOADS}", mounted)
    script.on(f"GET {BASE}/manifests/{sha256(MANIFEST)}", Reply(body=MANIFEST, headers={"Content-Type": OCI_MANIFEST}))
    for blob in (LAYER, CONFIG):
        script.on(f"HEAD /v2/team/app/blobs/{sha256(blob)}", Reply(404))
    return script


@asynccontextmanager
async def pushing(script: Script, *more: Reference) -> AsyncIterator[tuple[Bed, Grant, Scripted]]:
    async with scripted(script) as upstream, brokered() as bed:
        bases = [*more, Reference(upstream.host, "lib/base", digest=sha256(MANIFEST))]
        mount_from = [Reference(upstream.host, one.repository, digest=one.digest) for one in bases]
        with bed.broker.grant("job1", push=Reference(upstream.host, "team/app"), mount_from=mount_from) as grant:
            yield bed, grant, upstream


@pytest.mark.parametrize(
    ("mounted", "cancelled"),
    [
        (Reply(202, headers={"Location": f"{UPLOADS}9"}), [f"{UPLOADS}9"]),
        (refused(400, "UNSUPPORTED", "no mounts here"), []),
        (refused(403, "DENIED", "not from there"), []),
        (refused(422, "UNKNOWN", "what?"), []),
        (refused(500, "UNKNOWN", "what?"), []),
        (Reply(405), []),
    ],
)
async def test_a_registry_that_does_not_mount_is_asked_once(mounted: Reply, cancelled: list[str]) -> None:
    """Layers asked for at once are all to be sent, and that is no trouble of the push; an upload it opened is ended."""
    async with pushing(lacking(mounted)) as (bed, grant, upstream):
        answers = await asyncio.gather(*(head(bed, grant, path) for path in PLACES * 3))
        begun = of(upstream, "POST")

    assert {answer.status for answer in answers} == {404}
    assert len(begun) == 1
    assert [one.path for one in of(upstream, "DELETE")] == cancelled
    assert grant.refusal is None


async def test_a_blob_that_is_mounted_and_not_shown_is_sent() -> None:
    """The registry's own answer for the blob is what counts."""
    async with pushing(lacking(Reply(201))) as (bed, grant, _):
        answer = await head(bed, grant, PLACES[0])

    assert answer.status == 404


async def test_a_base_that_cannot_be_read_does_not_hide_another() -> None:
    """One that is gone spares nothing; what the other's manifest names is mounted from it, each base read once."""
    gone = Reference("", "lib/gone", digest=sha256(b"gone"))
    script = lacking(Reply(201)).on(f"GET /v2/lib/gone/manifests/{gone.digest}", Reply(404))
    async with pushing(script, gone) as (bed, grant, upstream):
        for path in PLACES:
            await head(bed, grant, path)

    mounts = [dict(one.query) for one in of(upstream, "POST")]
    assert mounts == [{"mount": sha256(blob), "from": "lib/base"} for blob in (LAYER, CONFIG)]
    assert [one.path.split("/")[3] for one in of(upstream, "GET") if "manifests" in one.path] == ["gone", "base"]
    assert grant.refusal is None
