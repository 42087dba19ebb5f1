"""The heads of the broker's answers, as an engine reads them, and of its requests, as a registry does.

Sources: distribution-spec, "Pushing blobs", "Pulling blobs", "Error codes".
"""

from __future__ import annotations

import json
import re

import pytest

from coordinator.domain.image.descriptors import OCI_INDEX, OCI_MANIFEST, sha256
from tests.edges.broker.broker_bed import CONFIG, LAYER, MANIFEST, REPOSITORY, Answer, Script, of, pulling, pushing
from tests.edges.registry.scripted_server import Reply

BLOB = f"{REPOSITORY}/blobs/{sha256(LAYER)}"
KEPT = f"/v2/push/manifests/{sha256(MANIFEST)}"
OCTETS = "application/octet-stream"


def held() -> Script:
    """A registry that has the manifest, and the layer for HEAD."""
    manifest = Reply(200, MANIFEST, {"Content-Type": OCI_MANIFEST})
    return (
        Script()
        .on(f"GET {REPOSITORY}/manifests/{sha256(MANIFEST)}", manifest)
        .on(f"HEAD {BLOB}", Reply(200, headers={"Content-Length": str(len(LAYER))}))
    )


def read(answer: Answer, *names: str) -> tuple[object, ...]:
    return (answer.status, *(answer.headers.get(name, "") for name in names))


async def test_what_an_engine_reads_while_it_pushes() -> None:
    async with pushing(held()) as (board, _):
        ping = await board.ask("GET", "/v2/")
        begun = await board.ask("POST", "/v2/push/blobs/uploads/")
        place = begun.headers["location"]
        chunk = await board.ask("PATCH", place, LAYER)
        ended = await board.ask("PUT", f"{place}?digest={sha256(LAYER)}")
        put = await board.ask("PUT", KEPT, MANIFEST, content_type=OCI_MANIFEST)
        shown = await board.ask("GET", KEPT)
        layer = await board.ask("HEAD", f"/v2/push/blobs/{sha256(LAYER)}")

    assert read(ping, "content-type", "docker-distribution-api-version") == (200, "application/json", "registry/2.0")
    name = re.fullmatch(r"/v2/push/blobs/uploads/([0-9a-f]{32})", place)[1]
    assert read(begun, "docker-upload-uuid", "range") == (202, name, "0-0")
    assert read(chunk, "location", "docker-upload-uuid", "range") == (202, place, name, "0-0")
    blob = f"/v2/push/blobs/{sha256(LAYER)}"
    assert read(ended, "location", "docker-content-digest") == (201, blob, sha256(LAYER))
    assert read(put, "location", "docker-content-digest") == (201, KEPT, sha256(MANIFEST))
    assert read(shown, "content-type", "docker-content-digest") == (200, OCI_MANIFEST, sha256(MANIFEST))
    assert read(layer, "content-type", "docker-content-digest", "content-length") == (
        200,
        OCTETS,
        sha256(LAYER),
        str(len(LAYER)),
    )


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("DELETE", "/v2/push/blobs/uploads/x", 405, "UNSUPPORTED"),
        ("GET", f"/v2/push/blobs/{sha256(LAYER)}", 405, "UNSUPPORTED"),
        ("DELETE", KEPT, 405, "UNSUPPORTED"),
        ("HEAD", "/v2/push/blobs/uploads/", 405, ""),
        ("PATCH", "/v2/push/blobs/uploads/x", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("GET", KEPT, 404, "MANIFEST_UNKNOWN"),
        ("GET", "/v2/other/blobs/x", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/push/tags", 404, "NAME_UNKNOWN"),
    ],
)
async def test_what_is_refused_has_a_code_of_the_specification(method, path, status, code) -> None:
    async with pushing(Script()) as (board, upstream):
        answer = await board.ask(method, path)

    assert read(answer, "content-type") == (status, "application/json")
    if code:
        (error,) = json.loads(answer.body)["errors"]
        assert error["code"] == code
        assert error["message"].startswith("archloom: ")
    assert not [one for one in upstream.asked if one.path != "/v2/"]


@pytest.mark.parametrize("digest", ["", "sha256:0", "md5:" + "0" * 32, "sha256:" + "G" * 64])
async def test_an_upload_is_not_ended_without_a_digest(digest) -> None:
    """The refusal is the job's reason, and the registry is not asked."""
    async with pushing(Script()) as (board, upstream):
        answer = await board.ask("PUT", f"{await board.upload()}?digest={digest}")
        (error,) = json.loads(answer.body)["errors"]

        assert (answer.status, error["code"]) == (400, "DIGEST_INVALID")
        assert board.grant.refusal.code == "invalid"
    assert of(upstream, "PUT") == []


@pytest.mark.parametrize(
    ("said", "kind", "span"),
    [
        ({}, OCTETS, ""),
        ({"content_type": "application/x-gzip"}, "application/x-gzip", ""),
        ({"content_range": "0-4999"}, OCTETS, "0-4999"),
    ],
)
async def test_a_registry_reads_what_the_engine_says_of_a_chunk(said, kind, span) -> None:
    """And the engine reads which bytes the registry has."""
    place = f"{REPOSITORY}/blobs/uploads/1"
    script = Script().on(f"PATCH {place}", Reply(202, headers={"Range": "0-4999"}))
    async with pushing(script) as (board, upstream):
        answer = await board.ask("PATCH", await board.upload(), LAYER, **said)

    (chunk,) = of(upstream, "PATCH")
    assert (chunk.headers["content-type"], chunk.headers.get("content-range", "")) == (kind, span)
    assert (chunk.headers["accept-encoding"], chunk.headers["user-agent"]) == ("identity", "archloom")
    assert read(answer, "range") == (202, "0-4999")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(200, LAYER), (200, OCTETS, sha256(LAYER), "")),
        (
            Reply(206, LAYER[10:], {"Content-Range": "bytes 10-4999/5000"}),
            (206, OCTETS, sha256(LAYER), "bytes 10-4999/5000"),
        ),
        (Reply(416), (416, OCTETS, sha256(LAYER), "")),
    ],
)
async def test_what_an_engine_reads_of_a_base_s_layer(reply, expected) -> None:
    """Whole, a part of it, or that there is no such part."""
    script = held().on(f"GET {BLOB}", reply)
    async with pulling(script, sha256(MANIFEST)) as (board, upstream):
        await board.ask("GET", f"/v2/base0/manifests/{sha256(MANIFEST)}")
        answer = await board.ask("GET", f"/v2/base0/blobs/{sha256(LAYER)}", range="bytes=10-")

    assert read(answer, "content-type", "docker-content-digest", "content-range") == expected
    assert upstream.asked[-1].headers["range"] == "bytes=10-"


@pytest.mark.parametrize(
    ("framing", "sent", "is_last"),
    [
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nlayer\r\n0\r\n\r\n", b"5\r\nlayer\r\n0\r\n\r\n", False),
        ("Connection: close\r\n\r\nlayer", b"layer", True),
    ],
)
async def test_a_layer_of_unknown_length_ends_where_the_registry_s_does(framing, sent, is_last) -> None:
    """In chunks, or with the connection (RFC 9112, 6.3)."""
    script = held().on(f"GET {BLOB}", Reply(raw=f"HTTP/1.1 200 OK\r\n{framing}".encode()))
    async with pulling(script, sha256(MANIFEST)) as (board, _):
        await board.ask("GET", f"/v2/base0/manifests/{sha256(MANIFEST)}")
        await board.send("GET", f"/v2/base0/blobs/{sha256(LAYER)}")
        head = (await board.reader.readuntil(b"\r\n\r\n")).decode().lower()
        body = await board.reader.readexactly(len(sent))

        assert body == sent
        assert ("transfer-encoding: chunked" in head) is not is_last
        assert ("connection: close" in head) is is_last
        assert not is_last or await board.ended()


async def test_a_base_that_is_an_index_names_its_children() -> None:
    """Each is readable by its digest, and so are its blobs, in any order; nothing else is."""
    entry = {"mediaType": OCI_MANIFEST, "digest": sha256(MANIFEST), "size": len(MANIFEST)}
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    script = held().on(f"GET {REPOSITORY}/manifests/{sha256(raw)}", Reply(200, raw, {"Content-Type": OCI_INDEX}))
    script = script.on(f"GET {REPOSITORY}/blobs/{sha256(CONFIG)}", Reply(200, CONFIG))
    async with pulling(script, sha256(raw)) as (board, _):
        paths = [
            f"manifests/{sha256(MANIFEST)}",
            f"manifests/{sha256(raw)}",
            f"blobs/{sha256(CONFIG)}",
            f"manifests/{sha256(MANIFEST)}",
            f"blobs/{sha256(CONFIG)}",
            f"blobs/{sha256(b'other')}",
        ]
        statuses = [(await board.ask("GET", f"/v2/base0/{path}")).status for path in paths]

    assert statuses == [200, 200, 200, 200, 200, 404]
