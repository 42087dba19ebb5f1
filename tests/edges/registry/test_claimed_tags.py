"""Tags that are written once: what a registry says of one that is there, and two coordinators at the same moment."""

from __future__ import annotations

import asyncio
import json

import pytest

from coordinator.domain.image.descriptors import OCI_INDEX, Manifest, sha256
from coordinator.errors import RegistryError
from coordinator.registry.garbage_collection import deletes_untagged_children
from tests.edges.registry.scripted_registry import DIGEST, PING, RAW, after_ping, client, error_reply
from tests.edges.registry.scripted_server import HostSelection, Reply

OURS = Manifest(raw=RAW, media_type=OCI_INDEX, digest=DIGEST)
THEIRS = sha256(b"theirs")
IMMUTABLE = {
    "ECR": error_reply(400, "ImageTagAlreadyExistsException", "The image tag 'p' already exists"),
    "Harbor": error_reply(412, "PRECONDITION", "configured as immutable"),
    "Docker Hub": error_reply(403, "DENIED", "immutable tag"),
    "Artifact Registry": error_reply(400, "MANIFEST_INVALID", "The repository has enabled tag immutability"),
    "Quay": error_reply(409, "TAG_IMMUTABLE", "tag is immutable"),
    "a proxy": Reply(405, b"<html>"),
}


class Tag:
    """A registry with one tag. `refusal` answers every PUT; `meanwhile` is what another program writes before it."""

    def __init__(self, digest: str = "", refusal: Reply | None = None, meanwhile: str = "") -> None:
        self.digest = digest
        self.refusal = refusal
        self.meanwhile = meanwhile
        self.busy = 0

    def __call__(self, asked: HostSelection) -> Reply:
        if asked.path == "/v2/":
            return PING
        if asked.method == "HEAD":
            headers = {"Content-Type": OCI_INDEX, "Docker-Content-Digest": self.digest, "Content-Length": "2"}
            return Reply(200, b"", headers) if self.digest else Reply(404)
        self.digest, self.meanwhile = self.meanwhile or self.digest, ""
        if self.busy:
            self.busy -= 1
            return Reply(503)
        if self.refusal:
            return self.refusal
        self.digest = sha256(asked.body)
        return Reply(201)


async def test_a_free_tag_is_taken_and_read_back() -> None:
    """Three requests, in this order."""
    async with client(Tag()) as (registry, server, _):
        assert await registry.claim_tag("app", "p", OURS) == DIGEST

    assert server.lines()[1:] == [f"{method} /v2/app/manifests/p" for method in ("HEAD", "PUT", "HEAD")]


@pytest.mark.parametrize("digest", [DIGEST, THEIRS])
async def test_a_tag_that_is_there_is_not_written(digest: str) -> None:
    """Neither moved nor repeated."""
    async with client(Tag(digest)) as (registry, server, _):
        assert await registry.claim_tag("app", "p", OURS) == digest

    assert server.lines()[1:] == ["HEAD /v2/app/manifests/p"]


@pytest.mark.parametrize("registry_kind", IMMUTABLE)
@pytest.mark.parametrize("digest", [DIGEST, THEIRS])
async def test_an_immutable_tag_of_another_program_counts(registry_kind: str, digest: str) -> None:
    """However the registry words its refusal, for the same digest too: what the tag says decides."""
    async with client(Tag(refusal=IMMUTABLE[registry_kind], meanwhile=digest)) as (registry, _, _pauses):
        assert await registry.claim_tag("app", "p", OURS) == digest


async def test_a_refusal_without_a_tag_is_one() -> None:
    """The registry's own words reach the user."""
    async with client(Tag(refusal=error_reply(403, "DENIED", "read only"))) as (registry, _, _pauses):
        with pytest.raises(RegistryError, match="read only"):
            await registry.claim_tag("app", "p", OURS)


async def test_a_tag_is_read_again_before_every_try() -> None:
    """Else a try that waited would overwrite what another program has pinned and published in between."""
    tag = Tag(meanwhile=THEIRS)
    tag.busy = 1
    async with client(tag) as (registry, server, pauses):
        assert await registry.claim_tag("app", "p", OURS) == THEIRS

    assert [line.partition(" ")[0] for line in server.lines()[1:]] == ["HEAD", "PUT", "HEAD"]
    assert len(pauses.seconds) == 1


async def test_a_tag_that_does_not_stay_is_said() -> None:
    """A registry that accepts and forgets keeps no child."""

    def forgetful(asked: HostSelection) -> Reply:
        return PING if asked.path == "/v2/" else Reply(404 if asked.method == "HEAD" else 201)

    async with client(forgetful) as (registry, _, pauses):
        with pytest.raises(RegistryError, match="does not have the tag") as error:
            await registry.claim_tag("app", "p", OURS)

    assert error.value.code == "not_found"
    assert sum(pauses.seconds) == 30.0


@pytest.mark.parametrize(("before", "lag"), [("", 3), (THEIRS, 3), ("", 0)])
async def test_a_tag_is_read_back_until_it_shows_what_was_put(before: str, lag: int) -> None:
    """Some registries show it only seconds later: until then nothing, or what was there before."""
    old = Reply(200, headers={"Docker-Content-Digest": before, "Content-Length": "1"}) if before else Reply(404)
    new = Reply(200, headers={"Docker-Content-Digest": DIGEST, "Content-Length": "1"})
    async with client(after_ping(*[old] * lag, new)) as (registry, _, pauses):
        assert await registry.read_back("app", "1", before) == DIGEST

    assert pauses.seconds == [0.25, 0.5, 1.0][:lag]


async def test_a_tag_that_shows_another_digest_is_not_waited_for() -> None:
    """Somebody else has put it there: no registry shows a third one by being late."""
    other = Reply(200, headers={"Docker-Content-Digest": THEIRS, "Content-Length": "1"})
    async with client(after_ping(other)) as (registry, _, pauses):
        assert await registry.read_back("app", "1", DIGEST) == THEIRS

    assert pauses.seconds == []


@pytest.mark.parametrize(
    ("headers", "listing", "deletes"),
    [
        ({"Docker-Distribution-Api-Version": "registry/2.0"}, Reply(200, b"{}"), True),
        ({"Docker-Distribution-Api-Version": "registry/2.0"}, error_reply(404, "NAME_UNKNOWN"), True),
        ({"Docker-Distribution-Api-Version": "registry/2.0"}, error_reply(400, "PAGINATION_NUMBER_INVALID"), False),
        ({"Docker-Distribution-Api-Version": "registry/2.0", "Gitlab-Container-Registry-Version": "4"}, None, False),
        ({}, Reply(200, b"{}"), False),
    ],
    ids=["2.x", "2.x, nothing pushed", "3.0", "GitLab", "another"],
)
async def test_which_clean_up_takes_untagged_children(
    headers: dict[str, str],
    listing: Reply | None,
    deletes: bool,  # noqa: FBT001 - a case's
) -> None:
    """No answer has the version: a header and what a negative number of tags does tell it."""
    reply = listing or Reply(200, b"{}")

    def script(asked: HostSelection) -> Reply:
        assert asked.path == "/v2/" or asked.query == [("n", "-1")]
        return Reply(reply.status, reply.body, {**reply.headers, **headers}) if asked.path != "/v2/" else PING

    async with client(script) as (registry, _, _pauses):
        assert await deletes_untagged_children(registry, "app") is deletes


def manifests(count: int) -> list[Manifest]:
    raws = [json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "annotations": {"n": str(n)}})
            for n in range(count)]  # fmt: skip
    return [Manifest(raw=raw.encode(), media_type=OCI_INDEX, digest=sha256(raw.encode())) for raw in raws]


async def test_coordinators_at_the_same_moment_agree_in_the_end() -> None:
    """A registry has no compare-and-swap: whoever asks again sees who has the tag, and nobody moves it then."""
    tag = Tag()
    async with client(tag) as (registry, server, _):
        ours = manifests(4)
        await asyncio.gather(*(registry.claim_tag("app", "p", one) for one in ours))
        holder = tag.digest
        asked = len(server.asked)

        assert await asyncio.gather(*(registry.claim_tag("app", "p", one) for one in ours)) == [holder] * 4

    assert {one.method for one in server.asked[asked:]} == {"HEAD"}
