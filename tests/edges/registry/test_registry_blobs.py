"""Blobs down and up, mounts and copies, against a server that breaks off on purpose."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from coordinator.domain.image.descriptors import OCI_INDEX, OCI_MANIFEST, sha256
from coordinator.errors import RegistryError
from coordinator.registry.copy import copy_image
from tests.edges.registry.scripted_registry import BLOB, BLOB_DIGEST, DIGEST, PING, after_ping, client
from tests.edges.registry.scripted_server import HostSelection, Reply


async def test_blob_verified() -> None:
    """A blob that is not its digest is refused, a larger one than asked for too, a truncated one is fetched again."""
    truncated = Reply(200, BLOB, cut=1000)
    async with client(after_ping(truncated, Reply(200, BLOB))) as (registry, _, pauses):
        assert await registry.get_blob("app", BLOB_DIGEST, len(BLOB)) == BLOB
        assert len(pauses.seconds) == 1
        with pytest.raises(RegistryError) as too_large:
            await registry.get_blob("app", BLOB_DIGEST, len(BLOB) - 1)
        with pytest.raises(RegistryError) as other:
            await registry.get_blob("app", DIGEST, len(BLOB))

    assert (too_large.value.code, other.value.code) == ("too_large", "corrupt")


async def test_broken_stream() -> None:
    """A stream that breaks says so: what was taken of it cannot be taken back."""
    async with client(after_ping(Reply(200, BLOB, cut=1000))) as (registry, _, _):
        with pytest.raises(RegistryError) as broken:
            async for _ in registry.stream_blob("app", BLOB_DIGEST):
                pass

    assert broken.value.code == "broken"


@pytest.mark.parametrize(
    ("location", "path", "query"),
    [
        ("/v2/app/blobs/uploads/1", "/v2/app/blobs/uploads/1", []),
        ("/v2/app/blobs/uploads/1?_state=a%2Bb", "/v2/app/blobs/uploads/1", [("_state", "a+b")]),
        ("http://{host}/v2/app/blobs/uploads/2?x=", "/v2/app/blobs/uploads/2", [("x", "")]),
        # A registry behind a proxy that names itself as it is inside.
        ("https://127.0.0.1/v2/app/blobs/uploads/3", "/v2/app/blobs/uploads/3", []),
    ],
)
async def test_upload_location(location: str, path: str, query: list[tuple[str, str]]) -> None:
    """An upload goes where the registry says, with the state it gave, its length known and in one piece."""

    def script(asked: HostSelection) -> Reply:
        if asked.method == "POST":
            return Reply(202, headers={"Location": location.format(host=asked.headers["host"])})
        return Reply(201) if asked.method == "PUT" else PING

    async with client(script) as (registry, server, _):
        await registry.upload_blob("app", BLOB_DIGEST, len(BLOB), lambda: chunks(BLOB))

    put = server.asked[-1]
    assert ("PUT", path, [*query, ("digest", BLOB_DIGEST)]) == (put.method, put.path, put.query)
    assert (BLOB, str(len(BLOB))) == (put.body, put.headers["content-length"])
    assert server.asked[1].headers.get("content-length", "0") == "0"


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 65536):
        yield body[start : start + 65536]


async def test_upload_starts_again() -> None:
    """An upload that breaks is begun anew, from the first byte and with a new session."""
    answers = [Reply(503), Reply(raw=b""), Reply(201)]
    sessions: list[int] = []

    def script(asked: HostSelection) -> Reply:
        if asked.method == "POST":
            sessions.append(1)
            return Reply(202, headers={"Location": f"/v2/app/blobs/uploads/{len(sessions)}"})
        return answers.pop(0) if asked.method == "PUT" else PING

    async with client(script) as (registry, server, pauses):
        await registry.upload_blob("app", BLOB_DIGEST, len(BLOB), lambda: chunks(BLOB))

    puts = [asked for asked in server.asked if asked.method == "PUT"]
    assert [asked.path.rpartition("/")[2] for asked in puts] == ["1", "2", "3"]
    assert [asked.body for asked in puts] == [BLOB] * 3
    assert len(pauses.seconds) == 2


@pytest.mark.parametrize("said", [len(BLOB) - 1, len(BLOB) + 1])
async def test_upload_of_another_size(said: int) -> None:
    """A blob that is longer or shorter than said is not pushed."""

    def script(asked: HostSelection) -> Reply:
        return Reply(202, headers={"Location": "/v2/app/blobs/uploads/1"}) if asked.method == "POST" else PING

    async with client(script) as (registry, _, pauses):
        with pytest.raises(RegistryError, match=f"expected {said}") as refused:
            await registry.upload_blob("app", BLOB_DIGEST, said, lambda: chunks(BLOB))

    assert (refused.value.code, pauses.seconds) == ("mismatch", [])


async def test_upload_without_location() -> None:
    """A registry that opens an upload and does not say where is an error, not a crash."""
    async with client(after_ping(Reply(202))) as (registry, _, _):
        with pytest.raises(RegistryError) as refused:
            await registry.upload_blob("app", BLOB_DIGEST, len(BLOB), lambda: chunks(BLOB))

    assert refused.value.code == "no_registry"


@pytest.mark.parametrize(
    ("status", "mounted", "cancelled"),
    [(201, True, False), (202, False, True), (400, False, False), (401, False, False), (403, False, False),
     (405, False, False), (409, False, False), (422, False, False), (500, False, False), (501, False, False),
     (503, False, False)],
)  # fmt: skip
async def test_mount(status: int, mounted: bool, cancelled: bool) -> None:  # noqa: FBT001
    """A mount succeeds or does not, without a pause; the upload that a registry opens instead is given up."""

    def script(asked: HostSelection) -> Reply:
        if asked.method == "POST":
            return Reply(status, headers={"Location": "/v2/app/blobs/uploads/9"})
        return Reply(204) if asked.method == "DELETE" else PING

    async with client(script) as (registry, server, pauses):
        assert mounted == await registry.mount_blob("app", BLOB_DIGEST, "lib/base")

    assert pauses.seconds == []
    assert server.asked[1].query == [("mount", BLOB_DIGEST), ("from", "lib/base")]
    assert cancelled == ("DELETE /v2/app/blobs/uploads/9" in server.lines())


async def test_foreign_layers_stay_where_they_are() -> None:
    """A copy leaves out the layers that are fetched from elsewhere, and what is there already."""
    foreign = {"mediaType": "x/foreign", "digest": sha256(b"foreign"), "size": 7, "urls": ["https://example.org/layer"]}
    raw = json.dumps({"mediaType": OCI_MANIFEST, "config": blob_json(), "layers": [foreign]}).encode()

    def script(asked: HostSelection) -> Reply:
        return Reply(201) if asked.method == "PUT" else Reply(200, raw)

    async with client(script) as (registry, server, _):
        await copy_image(registry, "app", sha256(raw), registry, "copy")

    manifest = f"manifests/{sha256(raw)}"
    expected = [f"GET /v2/app/{manifest}", f"HEAD /v2/copy/blobs/{BLOB_DIGEST}", f"PUT /v2/copy/{manifest}"]
    assert server.lines()[1:] == expected


async def test_copy_starts_a_broken_blob_again() -> None:
    """A blob whose source breaks in the middle is fetched and pushed again from its start."""
    raw = json.dumps({"mediaType": OCI_MANIFEST, "config": blob_json(), "layers": []}).encode()
    answers = [Reply(200, BLOB, cut=1000), Reply(200, BLOB)]

    def source(asked: HostSelection) -> Reply:
        if "/manifests/" in asked.path:
            return Reply(200, raw)
        return answers.pop(0) if "/blobs/" in asked.path else PING

    def into(asked: HostSelection) -> Reply:
        statuses = {"HEAD": 404, "POST": 202, "PUT": 201}
        return Reply(statuses.get(asked.method, 200), headers={"Location": "/v2/app/blobs/uploads/1"})

    async with client(source) as (registry, _, _), client(into) as (other, server, pauses):
        await copy_image(registry, "app", sha256(raw), other, "app")

    assert [asked.body for asked in server.asked if asked.method == "PUT"] == [BLOB, raw]
    assert len(pauses.seconds) == 1


async def test_copy_without_a_bottom() -> None:
    """Indexes that go on for ever are not followed for ever."""
    entries = [{"mediaType": OCI_INDEX, "digest": DIGEST, "size": 1}]

    levels: dict[str, bytes] = {}
    for _ in range(8):
        raw = json.dumps({"mediaType": OCI_INDEX, "manifests": entries}).encode()
        levels[sha256(raw)] = raw
        entries = [{"mediaType": OCI_INDEX, "digest": sha256(raw), "size": len(raw)}]

    async with client(lambda asked: Reply(200, levels.get(asked.path.rpartition("/")[2], b""))) as (registry, _, _):
        with pytest.raises(RegistryError, match="nested more than"):
            await copy_image(registry, "app", sha256(raw), registry, "copy")


def blob_json() -> dict[str, object]:
    return {"mediaType": "x/config", "digest": BLOB_DIGEST, "size": len(BLOB)}
