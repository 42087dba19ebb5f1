"""Manifests and bases through the broker: by digest, checked, and only what is the job's."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl

import pytest

from coordinator.domain.image.descriptors import (
    DOCKER_MANIFEST,
    MAX_MANIFEST_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    Manifest,
    sha256,
)
from coordinator.domain.image.platform_rewrite import rewrite_platform
from coordinator.domain.image.platforms import parse
from coordinator.domain.image.references import Reference
from coordinator.domain.run.registry_trouble import is_final
from tests.edges.broker.broker_bed import CONFIG, LAYER, MANIFEST, REPOSITORY, Script, brokered, of, pulling, pushing
from tests.edges.registry.scripted_registry import error_reply
from tests.edges.registry.scripted_server import Reply, scripted


async def test_a_manifest_goes_up_by_digest_whatever_it_is_called() -> None:
    """A tag becomes a digest, children of an index included; the grant remembers what was tagged."""
    index = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [{"mediaType": OCI_MANIFEST, "digest": sha256(MANIFEST), "size": len(MANIFEST)}],
        }
    ).encode()
    async with pushing(Script()) as (board, upstream):
        child = await board.ask("PUT", f"/v2/push/manifests/{sha256(MANIFEST)}", MANIFEST, content_type=OCI_MANIFEST)
        assert board.grant.pushed is None
        put = await board.ask("PUT", "/v2/push/manifests/image", index, content_type=OCI_INDEX)

    assert (child.status, put.status) == (201, 201)
    assert put.headers["docker-content-digest"] == sha256(index)
    assert [(one.path, one.body) for one in of(upstream, "PUT")] == [
        (f"{REPOSITORY}/manifests/{sha256(MANIFEST)}", MANIFEST),
        (f"{REPOSITORY}/manifests/{sha256(index)}", index),
    ]
    assert board.grant.pushed is not None
    assert (board.grant.pushed.digest, board.grant.pushed.media_type, board.grant.pushed.size) == (
        sha256(index),
        OCI_INDEX,
        len(index),
    )


@pytest.mark.parametrize(
    ("target", "body", "content_type", "status", "words"),
    [
        ("image", b" " * (MAX_MANIFEST_BYTES + 1), OCI_MANIFEST, 413, "more than 4194304 bytes"),
        ("sha256:" + "0" * 64, MANIFEST, OCI_MANIFEST, 400, sha256(MANIFEST)),
        ("image", b"no json", OCI_MANIFEST, 403, "malformed"),
        ("image", MANIFEST, DOCKER_MANIFEST, 403, "mediaType"),
    ],
)
async def test_a_manifest_that_is_none_is_refused_here(target, body, content_type, status, words) -> None:
    """Too large, wrongly named, no JSON, or of another type than it says: nothing of it reaches the registry."""
    async with pushing(Script()) as (board, upstream):
        answer = await board.ask("PUT", f"/v2/push/manifests/{target}", body, content_type=content_type)

    assert answer.status == status
    assert words in answer.message
    assert not of(upstream, "PUT")
    assert board.grant.pushed is None
    # What the engine makes of it tells nothing: the grant keeps why.
    assert board.grant.refusal is not None
    assert words in board.grant.refusal.message


async def test_a_layer_that_went_missing_is_worth_another_push() -> None:
    """The registry had it when it was asked, and not when the manifest came: pushed again, it is sent."""
    missing = error_reply(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", {"digest": sha256(LAYER)})
    script = Script().on(f"PUT {REPOSITORY}/manifests/{sha256(MANIFEST)}", missing)
    async with pushing(script) as (board, _):
        answer = await board.ask("PUT", "/v2/push/manifests/image", MANIFEST, content_type=OCI_MANIFEST)

    assert answer.status == 503
    assert board.grant.refusal is not None
    assert not is_final(board.grant.refusal.code)


async def test_a_job_reads_the_manifests_it_pushed_and_no_others() -> None:
    """Another job's push to the same repository stays hidden."""
    path = f"{REPOSITORY}/manifests/{sha256(MANIFEST)}"
    script = Script().on(f"GET {path}", Reply(body=MANIFEST, headers={"Content-Type": OCI_MANIFEST}))
    async with scripted(script) as upstream, brokered() as bed:
        push = Reference(upstream.host, "team/app")
        with bed.broker.grant("job1", push=push) as one, bed.broker.grant("job2", push=push) as two:
            async with bed.board(one) as board:
                await board.ask("PUT", "/v2/push/manifests/image", MANIFEST, content_type=OCI_MANIFEST)
                mine = [await board.ask("GET", f"/v2/push/manifests/{name}") for name in ("image", sha256(MANIFEST))]
                blob = await board.ask("GET", f"/v2/push/blobs/{sha256(LAYER)}")
            async with bed.board(two) as board:
                theirs = await board.ask("GET", f"/v2/push/manifests/{sha256(MANIFEST)}")

    assert [answer.body for answer in mine] == [MANIFEST, MANIFEST]
    assert (blob.status, theirs.status) == (405, 404)


def base() -> Script:
    return (
        Script()
        .on(
            f"GET {REPOSITORY}/manifests/{sha256(MANIFEST)}",
            Reply(body=MANIFEST, headers={"Content-Type": OCI_MANIFEST}),
        )
        .on(f"GET {REPOSITORY}/blobs/{sha256(LAYER)}", Reply(body=LAYER))
    )


async def test_a_base_shows_the_blobs_of_its_manifest() -> None:
    """A blob that the base's manifest names is readable, also before it, and nothing else of the repository is."""
    blob = f"/v2/base0/blobs/{sha256(LAYER)}"
    async with pulling(base(), sha256(MANIFEST)) as (board, upstream):
        early = await board.ask("GET", blob)
        head = await board.ask("HEAD", f"/v2/base0/manifests/{sha256(MANIFEST)}")
        manifest = await board.ask("GET", f"/v2/base0/manifests/{sha256(MANIFEST)}")
        layer = await board.ask("GET", blob)
        others = [
            await board.ask("GET", f"/v2/base0/blobs/{sha256(b'other')}"),
            await board.ask("GET", "/v2/base0/manifests/latest"),
            await board.ask("GET", "/v2/base0/tags/list"),
            await board.ask("GET", f"/v2/push/blobs/{sha256(LAYER)}"),
        ]
        written = await board.ask("PUT", "/v2/base0/manifests/latest")

    assert early.body == LAYER
    assert (head.status, head.headers["content-length"]) == (200, str(len(MANIFEST)))
    assert manifest.body == MANIFEST
    assert layer.body == LAYER
    assert [answer.status for answer in others] == [404] * 4
    assert written.status == 405
    assert {one.method for one in upstream.asked} == {"GET"}


async def test_two_bases_of_one_repository_are_two() -> None:
    """Two tags of one image, or one for two platforms, are each read by their own digest, and not by the other's."""
    other = MANIFEST + b"\n"
    script = base().on(
        f"GET {REPOSITORY}/manifests/{sha256(other)}", Reply(body=other, headers={"Content-Type": OCI_MANIFEST})
    )
    async with scripted(script) as upstream, brokered() as bed:
        of_digest = {
            name: Reference(upstream.host, "team/app", digest=sha256(raw))
            for name, raw in (("base0", MANIFEST), ("base1", other))
        }
        with bed.broker.grant("job1", bases=of_digest) as grant:
            async with bed.board(grant) as board:
                paths = [
                    f"/v2/{name}/manifests/{sha256(raw)}" for name in ("base0", "base1") for raw in (MANIFEST, other)
                ]
                answers = [await board.ask("GET", path) for path in paths]

    assert [answer.status for answer in answers] == [200, 404, 404, 200]
    assert (answers[0].body, answers[3].body) == (MANIFEST, other)


async def test_a_rewritten_base_is_read_with_the_layers_of_its_registry() -> None:
    """Manifest and config come from here, for this job only; a layer that the original does not name stays hidden."""
    original = Manifest(raw=MANIFEST, media_type=OCI_MANIFEST, digest=sha256(MANIFEST))
    image = rewrite_platform(original, CONFIG, parse("linux/arm64"))
    async with scripted(base()) as upstream, brokered() as bed:
        bases = {"base0": Reference(upstream.host, "team/app", digest=sha256(MANIFEST))}
        with bed.broker.grant("job1", bases=bases, rewritten=[image]) as grant:
            async with bed.board(grant) as board:
                head = await board.ask("HEAD", f"/v2/base0/manifests/{image.manifest.digest}")
                manifest = await board.ask("GET", f"/v2/base0/manifests/{image.manifest.digest}")
                config = await board.ask("GET", f"/v2/base0/blobs/{image.config_digest}")
                layer = await board.ask("GET", f"/v2/base0/blobs/{sha256(LAYER)}")
                other = await board.ask("GET", f"/v2/base0/blobs/{sha256(b'other')}")
                written = await board.ask("PUT", f"/v2/base0/manifests/{image.manifest.digest}")
        with bed.broker.grant("job2", bases=bases) as grant:
            async with bed.board(grant) as board:
                hidden = await board.ask("GET", f"/v2/base0/manifests/{image.manifest.digest}")

    assert (head.status, head.headers["content-length"]) == (200, str(len(image.manifest.raw)))
    assert (manifest.body, manifest.headers["content-type"]) == (image.manifest.raw, OCI_MANIFEST)
    assert (config.body, layer.body) == (image.config, LAYER)
    assert [answer.status for answer in (other, written, hidden)] == [404, 405, 404]


async def test_a_base_that_came_wrong_is_refused() -> None:
    """The bytes of a base's manifest are its digest, whatever the registry sends."""
    script = base().on(
        f"GET {REPOSITORY}/manifests/{sha256(MANIFEST)}",
        Reply(body=MANIFEST + b" ", headers={"Content-Type": OCI_MANIFEST}),
    )
    async with pulling(script, sha256(MANIFEST)) as (board, _):
        answer = await board.ask("GET", f"/v2/base0/manifests/{sha256(MANIFEST)}")

    assert answer.status == 403
    assert board.grant.refusal is not None
    assert board.grant.refusal.code == "corrupt"


async def test_the_rest_of_a_layer_is_fetched_where_the_registry_keeps_it() -> None:
    """Redirects are followed here, without credentials, and a Range arrives."""
    tail = Reply(206, LAYER[10:], {"Content-Range": f"bytes 10-{len(LAYER) - 1}/{len(LAYER)}"})
    async with scripted(lambda _: tail) as store:
        place = f"http://{store.host}/store/1?signature=a%2Bb"
        script = base().on(f"GET {REPOSITORY}/blobs/{sha256(LAYER)}", Reply(307, headers={"Location": place}))
        async with pulling(script, sha256(MANIFEST)) as (board, _):
            await board.ask("GET", f"/v2/base0/manifests/{sha256(MANIFEST)}")
            answer = await board.ask("GET", f"/v2/base0/blobs/{sha256(LAYER)}", range="bytes=10-")

    assert (answer.status, answer.body) == (206, LAYER[10:])
    assert answer.headers["content-range"] == f"bytes 10-{len(LAYER) - 1}/{len(LAYER)}"
    assert parse_qsl("signature=a%2Bb") == store.asked[0].query
    assert (store.asked[0].authorization, store.asked[0].headers["range"]) == ("", "bytes=10-")


async def test_a_layer_that_breaks_off_is_broken_off() -> None:
    """What the registry did not send is not made up: the board's connection ends before the layer does."""
    script = base().on(f"GET {REPOSITORY}/blobs/{sha256(LAYER)}", Reply(body=LAYER, cut=100))
    async with pulling(script, sha256(MANIFEST)) as (board, _):
        await board.ask("GET", f"/v2/base0/manifests/{sha256(MANIFEST)}")
        await board.send("GET", f"/v2/base0/blobs/{sha256(LAYER)}")
        rest = (await board.reader.read()).partition(b"\r\n\r\n")[2]

    assert rest == LAYER[:100]
