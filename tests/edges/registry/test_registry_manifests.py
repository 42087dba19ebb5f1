"""Manifests, and what a refusal says, against a server that answers what a test wants."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from coordinator.domain.image.descriptors import ACCEPT, OCI_INDEX, OCI_MANIFEST, sha256
from coordinator.domain.secrets import Credential
from coordinator.errors import ArchloomError, RegistryError
from tests.edges.registry.scripted_registry import (
    BLOB_DIGEST,
    DIGEST,
    PING,
    RAW,
    after_ping,
    client,
    error_reply,
    manifest_reply,
)
from tests.edges.registry.scripted_server import HostSelection, Reply, Script, scripted


async def refused_code(script: Script, credential: Credential | None = None) -> ArchloomError:
    async with client(script, credential) as (registry, _, _):
        with pytest.raises(ArchloomError) as refused:
            await registry.get_manifest("app", DIGEST)
    return refused.value


async def test_manifest_request() -> None:
    """A manifest is asked for by digest, with all four types, unencoded, under our own name; no cookie comes back."""
    replies = manifest_reply(Docker_Content_Digest=DIGEST, Set_Cookie="sid=1")
    async with client(after_ping(replies)) as (registry, server, _):
        found = await registry.get_manifest("app", "latest")
        await registry.get_manifest("app", "latest")

    assert (found.raw, found.media_type, found.digest, found.is_index) == (RAW, OCI_INDEX, DIGEST, True)
    wanted = ["HEAD /v2/app/manifests/latest", f"GET /v2/app/manifests/{DIGEST}"]
    assert ["GET /v2/", *wanted, *wanted] == server.lines()
    for asked in server.asked[1:]:
        assert (asked.headers["accept"], asked.headers["accept-encoding"]) == (ACCEPT, "identity")
        assert asked.headers["user-agent"].startswith("archloom/")
        assert "cookie" not in asked.headers


async def test_netrc_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `.netrc` beside us never reaches a registry."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login x password y\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))

    async with client(after_ping(manifest_reply())) as (registry, server, _):
        await registry.get_manifest("app", DIGEST)

    assert [asked.authorization for asked in server.asked] == [""] * 2


async def test_loopback_is_not_proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy from the environment is for other machines."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    async with client(after_ping(manifest_reply())) as (registry, _, _):
        assert (await registry.get_manifest("app", DIGEST)).digest == DIGEST


async def test_head_without_digest() -> None:
    """Where a HEAD does not tell the digest, or is not allowed, the bytes do."""
    for head in (manifest_reply(), Reply(405)):
        async with client(after_ping(head, manifest_reply())) as (registry, _, _):
            found = await registry.head_manifest("app", "latest")

        assert found is not None
        assert (DIGEST, len(RAW), OCI_INDEX) == (found.digest, found.size, found.media_type)


async def test_missing_manifest() -> None:
    """A missing manifest is `None` to a HEAD and `not_found` to a GET."""
    async with client(after_ping(Reply(404))) as (registry, _, _):
        assert await registry.head_manifest("app", "latest") is None
        with pytest.raises(RegistryError, match="app:latest does not exist") as refused:
            await registry.get_manifest("app", "latest")

    assert refused.value.code == "not_found"


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (manifest_reply(b'{"manifests": [1]}'), "corrupt"),
        (manifest_reply(b" " * (5 * 1024 * 1024)), "too_large"),
        (error_reply(403, "DENIED"), "denied"),
        (error_reply(401, "UNAUTHORIZED"), "unauthorized"),
        (Reply(401), "unauthorized"),
        (Reply(418, b"<html>teapot</html>"), "refused"),
        (Reply(302, headers={"Location": "/v2/app/manifests/x"}), "redirect"),
        (Reply(302), "redirect"),
        (Reply(302, headers={"Location": "ftp://h/x"}), "redirect"),
    ],
)
async def test_refusals(reply: Reply, code: str) -> None:
    """Each way of not answering has its code, whatever body it comes with."""
    assert code == (await refused_code(after_ping(reply))).code


async def test_redirect_without_an_address() -> None:
    """It is said to be that, and the same address is not asked again."""
    async with client(after_ping(Reply(302))) as (registry, server, _):
        with pytest.raises(RegistryError, match="redirects without an address"):
            await registry.get_manifest("app", DIGEST)

    assert len(server.asked) == 2


async def test_wrong_digest_header() -> None:
    """A HEAD that promises another digest than the bytes have is found out."""
    other = sha256(b"other")
    script = after_ping(manifest_reply(Docker_Content_Digest=other))
    async with client(script) as (registry, _, _):
        with pytest.raises(RegistryError, match=f"arrived with the digest {DIGEST}, expected {other}"):
            await registry.get_manifest("app", "latest")


async def test_words_of_the_registry() -> None:
    """An error has what we did, the registry's own words, status and code; control characters do not pass."""
    error = await refused_code(after_ping(error_reply(403, "DENIED", "not \x1b[31myours")))

    assert "cannot read the manifest 127.0.0.1" in error.message
    assert error.message.endswith("not [31myours (403 DENIED)")
    assert "docker login 127.0.0.1:" in error.hint


async def test_check_push() -> None:
    """Whether we may push is found by opening an upload, which is given up even where that is not allowed."""

    def script(asked: HostSelection) -> Reply:
        if asked.method == "POST":
            return Reply(202, headers={"Location": "/v2/app/blobs/uploads/9"})
        return Reply(405) if asked.method == "DELETE" else PING

    async with client(script) as (registry, server, _):
        await registry.check_push("app")
    assert server.lines() == ["GET /v2/", "POST /v2/app/blobs/uploads/", "DELETE /v2/app/blobs/uploads/9"]

    async with client(after_ping(error_reply(403, "DENIED", "requested access is denied"))) as (registry, _, _):
        with pytest.raises(RegistryError, match=r"cannot push to .*app: requested access is denied") as refused:
            await registry.check_push("app")
    assert refused.value.code == "denied"


@pytest.mark.parametrize("answers", [True, False])
async def test_check_push_does_not_wait_for_the_end_of_its_upload(*, answers: bool) -> None:
    """The registry gets it all the same; one that never answers holds nothing up for long."""
    checked = asyncio.Event()

    async def script(asked: HostSelection) -> Reply:
        if asked.method == "DELETE":
            await checked.wait()
        return Reply(202, headers={"Location": "/v2/app/blobs/uploads/9"}) if asked.method == "POST" else PING

    async with asyncio.timeout(10), client(script) as (registry, server, _):
        await registry.check_push("app")
        if answers:
            checked.set()
        else:
            await registry.__aexit__(None, None, None)
            checked.set()

    assert server.lines()[-1] == "DELETE /v2/app/blobs/uploads/9"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_check_push_follows_redirects(status: int) -> None:
    """The broker follows them too when the push begins; the upload's place is relative to where the POST arrived."""

    def elsewhere(asked: HostSelection) -> Reply:
        return Reply(202, headers={"Location": "2"}) if asked.method == "POST" else Reply(204)

    async with scripted(elsewhere) as store:
        redirect = Reply(status, headers={"Location": f"http://{store.host}/up/1"})
        async with client(after_ping(redirect)) as (registry, _, _):
            await registry.check_push("app")

    assert store.lines() == ["POST /up/1", "DELETE /up/2"]


async def test_check_push_stops_at_303() -> None:
    """It would be a GET of something else."""
    async with client(after_ping(Reply(303, headers={"Location": "/v2/other"}))) as (registry, server, _):
        with pytest.raises(RegistryError, match=r"cannot push to .*app: see other \(303\)"):
            await registry.check_push("app")

    assert len(server.asked) == 2


async def test_put_manifest() -> None:
    """A manifest is put with the type it has inside; its digest is ours, and the registry has to agree."""
    agree = Reply(201, headers={"Docker-Content-Digest": DIGEST})
    async with client(after_ping(Reply(503), agree, Reply(201))) as (registry, server, _):
        assert await registry.put_manifest("app", "1.0", RAW, OCI_INDEX) == DIGEST
        assert await registry.put_manifest("app", DIGEST, RAW, OCI_INDEX) == DIGEST
    assert (server.asked[-1].headers["content-type"], server.asked[-1].body) == (OCI_INDEX, RAW)

    other = Reply(201, headers={"Docker-Content-Digest": sha256(b"other")})
    async with client(after_ping(other)) as (registry, server, _):
        for target in ("1.0", sha256(b"elsewhere")):
            with pytest.raises(RegistryError) as refused:
                await registry.put_manifest("app", target, RAW, OCI_INDEX)
            assert refused.value.code == "mismatch"
    assert len(server.asked) == 2


LINK_BEING_WRITTEN = Reply(
    400,
    json.dumps(
        {
            "errors": [
                {"code": "DIGEST_INVALID", "message": "provided digest did not match uploaded content"},
                {"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown to registry", "detail": BLOB_DIGEST},
            ]
        }
    ).encode(),
)


async def test_a_layer_that_another_push_is_writing_is_asked_for_again() -> None:
    """distribution 2.8 answers so for an instant while two platforms push the same layer."""
    accepted = Reply(201, headers={"Docker-Content-Digest": DIGEST})
    async with client(after_ping(LINK_BEING_WRITTEN, LINK_BEING_WRITTEN, accepted)) as (registry, _, pauses):
        assert await registry.put_manifest("app", "1.0", RAW, OCI_INDEX) == DIGEST
    assert pauses.seconds == [0.5, 1.0]


async def test_a_link_that_stays_broken_asks_for_the_layer_again() -> None:
    """A registry that was killed while it wrote the link: the layer must be pushed once more."""
    async with client(after_ping(LINK_BEING_WRITTEN)) as (registry, server, _):
        with pytest.raises(RegistryError) as refused:
            await registry.put_manifest("app", "1.0", RAW, OCI_INDEX)
    assert (refused.value.code, len(server.asked)) == ("blob_unknown", 4)
    assert BLOB_DIGEST in refused.value.message


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (error_reply(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown", {"digest": BLOB_DIGEST}), "blob_unknown"),
        (error_reply(400, "ImageTagAlreadyExistsException"), "immutable"),
        (error_reply(403, "TAG_IMMUTABLE"), "immutable"),
        (Reply(409), "immutable"),
        (Reply(412), "immutable"),
        (Reply(413), "too_large"),
        (error_reply(404, "NAME_UNKNOWN"), "not_found"),
        (error_reply(400, "MANIFEST_INVALID"), "invalid"),
    ],
)
async def test_put_refused(reply: Reply, code: str) -> None:
    """A refused manifest says why in one word, and is not put again."""
    async with client(after_ping(reply)) as (registry, server, pauses):
        with pytest.raises(RegistryError) as refused:
            await registry.put_manifest("app", "1.0", RAW, OCI_MANIFEST)

    assert (code, 2, []) == (refused.value.code, len(server.asked), pauses.seconds)
    if code == "blob_unknown":
        assert BLOB_DIGEST in refused.value.message
