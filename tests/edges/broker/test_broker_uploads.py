"""Uploads through the broker: where they go, with which credentials, and what a registry's refusal becomes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from coordinator.domain.image.descriptors import sha256
from coordinator.domain.image.references import Reference
from tests.edges.broker.broker_bed import ANN, LAYER, PLACE, REPOSITORY, Board, Script, brokered, of, pushing, refused
from tests.edges.registry.scripted_server import HostSelection, Reply, Scripted, scripted


async def test_an_upload_s_place_is_the_registry_s_own_affair() -> None:
    """The board sees an opaque name; upstream the place it was told, its query kept, the digest added."""
    async with pushing(Script()) as (board, upstream):
        place = await board.upload()
        patched = await board.ask("PATCH", place, LAYER)
        put = await board.ask("PUT", f"{patched.headers['location']}?digest={sha256(LAYER)}")

    assert (patched.status, put.status) == (202, 201)
    assert "team" not in place
    assert of(upstream, "POST")[0].query == []
    assert (of(upstream, "PATCH")[0].path, of(upstream, "PATCH")[0].query) == (PLACE, [("_state", "a/b")])
    assert of(upstream, "PUT")[0].query == [("_state", "a/b"), ("digest", sha256(LAYER))]
    assert put.headers["docker-content-digest"] == sha256(LAYER)


async def test_a_body_in_one_put_is_relayed_too() -> None:
    """containerd sends no PATCH."""
    async with pushing(Script()) as (board, upstream):
        put = await board.ask("PUT", f"{await board.upload()}?digest={sha256(LAYER)}", LAYER)

    assert put.status == 201
    assert of(upstream, "PUT")[0].body == LAYER


@pytest.mark.parametrize(("chunk", "end"), [(201, 200), (202, 201), (204, 204)])
async def test_a_registry_may_say_yes_in_other_ways(chunk, end) -> None:
    """ECR says 201 to a chunk; the engine reads what the distribution-spec says."""
    script = Script().on(f"PATCH {PLACE}", Reply(chunk)).on(f"PUT {PLACE}", Reply(end))
    async with pushing(script) as (board, _):
        patched = await board.ask("PATCH", await board.upload(), LAYER)
        put = await board.ask("PUT", f"{patched.headers['location']}?digest={sha256(LAYER)}")

    assert (patched.status, put.status) == (202, 201)


async def test_an_upload_that_is_ended_twice_at_once_is_ended() -> None:
    """An engine that lost its connection ends the upload again on another, while the first end is under way."""
    both = asyncio.Barrier(2)

    async def upstream(asked: HostSelection) -> Reply:
        if asked.method == "PUT":
            await both.wait()
        return Script()(asked)

    async with scripted(upstream) as registry, brokered() as bed:
        with bed.broker.grant("job1", push=Reference(registry.host, "team/app")) as grant:
            async with bed.board(grant) as one, bed.board(grant) as other:
                place = f"{await one.upload()}?digest={sha256(LAYER)}"
                puts = await asyncio.gather(one.ask("PUT", place), other.ask("PUT", place))
                late = await one.ask("PUT", place)

    assert [put.status for put in puts] == [201, 201]
    assert (late.status, grant.refusal) == (404, None)


async def test_credentials_stay_on_the_registry_s_own_host() -> None:
    """An upload that the registry sends elsewhere goes there without them."""
    async with scripted(Script()) as store:
        script = Script().on(
            f"POST {REPOSITORY}/blobs/uploads/", Reply(202, headers={"Location": f"http://{store.host}/put/1"})
        )
        script.ping = Reply(401, headers={"WWW-Authenticate": "Basic realm=r"})
        async with pushing(script, ANN) as (board, upstream):
            place = await board.upload()
            patched = await board.ask("PATCH", place, LAYER)

    assert patched.status == 202
    assert of(upstream, "POST")[0].authorization.startswith("Basic ")
    assert [(one.path, one.authorization, one.body) for one in store.asked] == [("/put/1", "", LAYER)]


async def test_an_upload_s_place_is_relative_to_where_it_was_opened() -> None:
    """A registry that redirects the opening elsewhere keeps the upload there (RFC 9110, section 10.2.2)."""

    def elsewhere(asked: HostSelection) -> Reply:
        if asked.method == "POST":
            return Reply(202, headers={"Location": "/put/1"})
        return Reply(202 if asked.method == "PATCH" else 201, headers={"Location": "2"})

    async with scripted(elsewhere) as store:
        redirect = Reply(307, headers={"Location": f"http://{store.host}/open"})
        async with pushing(Script().on(f"POST {REPOSITORY}/blobs/uploads/", redirect)) as (board, upstream):
            patched = await board.ask("PATCH", await board.upload(), LAYER)
            put = await board.ask("PUT", f"{patched.headers['location']}?digest={sha256(LAYER)}")

    assert (patched.status, put.status) == (202, 201)
    assert store.lines() == ["POST /open", "PATCH /put/1", "PUT /put/2"]
    assert not of(upstream, "PATCH")


async def test_a_host_it_was_sent_to_cannot_ask_for_credentials() -> None:
    """Only the registry itself is answered when it says 401."""
    async with scripted(lambda _: Reply(401, headers={"WWW-Authenticate": "Basic realm=r"})) as store:
        script = Script().on(
            f"HEAD {REPOSITORY}/blobs/{sha256(LAYER)}", Reply(307, headers={"Location": f"http://{store.host}/x"})
        )
        script.ping = Reply(401, headers={"WWW-Authenticate": "Basic realm=r"})
        async with pushing(script, ANN) as (board, _):
            answer = await board.ask("HEAD", f"/v2/push/blobs/{sha256(LAYER)}")

    assert answer.status == 403
    assert [one.authorization for one in store.asked] == [""]


@pytest.mark.parametrize("place", ["", "ftp://elsewhere/1", "/v2/a b", "http://[::1", "http://user:word@h/v2/"])
async def test_a_place_that_is_none_is_refused(place) -> None:
    """What a registry says of an upload's place is not followed blindly."""
    script = Script().on(f"POST {REPOSITORY}/blobs/uploads/", Reply(202, headers={"Location": place}))
    async with pushing(script) as (board, _):
        begun = await board.ask("POST", "/v2/push/blobs/uploads/")
        if begun.status == 202:
            begun = await board.ask("PATCH", begun.headers["location"], LAYER)

    assert begun.status == 403
    assert board.grant.refusal is not None
    assert begun.message == f"archloom: {board.grant.refusal.message}"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v2/push/blobs/uploads/"), ("GET", "/v2/"), ("GET", "/v2/other/blobs/x")]
)
async def test_a_body_nobody_wants_is_not_the_next_request(method, path) -> None:
    """A request hidden in a body is never answered."""
    hidden = b"DELETE /v2/push/manifests/x HTTP/1.1\r\nHost: h\r\n\r\n"
    async with pushing(Script()) as (board, upstream):
        answer = await board.ask(method, path, hidden)
        board.writer.write_eof()

        assert answer.headers["connection"] == "close"
        assert await board.ended()
    assert not of(upstream, "DELETE")


async def test_requests_in_a_row_are_answered_in_a_row() -> None:
    """Pipelining works, though no engine does it."""
    async with pushing(Script()) as (board, _):
        await board.send("GET", "/v2/")
        await board.send("HEAD", "/v2/push/manifests/1.0")
        await board.send("GET", "/v2/_catalog")
        answers = [await board.answer(method) for method in ("GET", "HEAD", "GET")]

    assert [answer.status for answer in answers] == [200, 404, 404]


@asynccontextmanager
async def with_tokens(*tokens: str) -> AsyncIterator[tuple[Board, Scripted, Script]]:
    script = Script()
    async with pushing(script, ANN) as (board, upstream):
        realm = f'Bearer realm="http://{upstream.host}/token",service="s"'
        script.ping = Reply(401, headers={"WWW-Authenticate": realm})
        script.on("GET /token", *(Reply(body=json.dumps({"token": token}).encode()) for token in tokens))
        yield board, upstream, script


async def test_a_token_that_runs_out_under_a_layer_is_renewed_for_the_next_try() -> None:
    """The body is spent, so the engine sends it again (503) and meets a fresh token."""
    async with with_tokens("old", "new") as (board, upstream, script):
        challenge = script.ping.headers
        script.on(f"PATCH {PLACE}", Reply(401, headers=challenge), Reply(202))
        first = await board.ask("PATCH", await board.upload(), LAYER)
        second = await board.ask("PATCH", await board.upload(), LAYER)

    assert (first.status, second.status) == (503, 202)
    assert "token expired" in first.message
    assert [one.authorization for one in of(upstream, "PATCH")] == ["Bearer old", "Bearer new"]
    assert board.grant.refusal is None


async def test_a_token_that_runs_out_before_an_end_is_renewed_at_once() -> None:
    """The PUT that ends an upload has no body: the board never hears of the token."""
    async with with_tokens("old", "new") as (board, upstream, script):
        script.on(f"PUT {PLACE}", Reply(401, headers=script.ping.headers), Reply(201))
        put = await board.ask("PUT", f"{await board.upload()}?digest={sha256(LAYER)}")

    assert put.status == 201
    assert [one.authorization for one in of(upstream, "PUT")] == ["Bearer old", "Bearer new"]


async def test_a_scope_that_the_registry_names_is_asked_for() -> None:
    """403 with a challenge is a token that does not suffice (RFC 6750, section 3.1): the client renews it as well."""
    async with with_tokens("narrow", "wide") as (board, upstream, script):
        challenge = script.ping.headers["WWW-Authenticate"]
        wider = f'{challenge},error="insufficient_scope",scope="repository:team/app:pull,push,delete"'
        script.on(f"HEAD {REPOSITORY}/blobs/{sha256(LAYER)}", Reply(403, headers={"WWW-Authenticate": wider}), Reply())
        answer = await board.ask("HEAD", f"/v2/push/blobs/{sha256(LAYER)}")

    assert answer.status == 200
    assert [one.authorization for one in of(upstream, "HEAD")] == ["Bearer narrow", "Bearer wide"]
    scopes = [[value for name, value in one.query if name == "scope"] for one in upstream.asked if one.path == "/token"]
    assert scopes[-1] == ["repository:team/app:pull,push,delete", "repository:team/app:pull,push"]
    assert board.grant.refusal is None


async def test_a_challenge_in_two_headers_is_read_whole() -> None:
    """A registry that offers Basic first and Bearer in a second header gets its token."""
    async with with_tokens("old", "new") as (board, upstream, script):
        both = {"WWW-Authenticate": "Basic realm=r", "www-authenticate": script.ping.headers["WWW-Authenticate"]}
        script.on(f"PUT {PLACE}", Reply(401, headers=both), Reply(201))
        put = await board.ask("PUT", f"{await board.upload()}?digest={sha256(LAYER)}")

    assert put.status == 201
    assert [one.authorization for one in of(upstream, "PUT")] == ["Bearer old", "Bearer new"]


async def test_a_final_401_has_the_registry_s_words_and_a_hint() -> None:
    """As the client says it: what the registry answers, and how to log in. A fresh token is not fetched again."""
    async with with_tokens("one", "two") as (board, upstream, script):
        said = refused(401, "UNAUTHORIZED", "no such user")
        said.headers |= script.ping.headers
        script.on(f"POST {REPOSITORY}/blobs/uploads/", said)
        answer = await board.ask("POST", "/v2/push/blobs/uploads/")

    assert (answer.status, upstream.lines().count("GET /token")) == (403, 1)
    assert answer.message.endswith("no such user (401 UNAUTHORIZED)")
    assert board.grant.refusal is not None
    assert (board.grant.refusal.code, board.grant.refusal.hint) == ("unauthorized", f"docker login {upstream.host}")


async def test_credentials_that_are_refused_have_the_registry_s_words() -> None:
    """A Basic password has no other to try."""
    said = refused(401, "UNAUTHORIZED", "wrong password")
    said.headers["WWW-Authenticate"] = "Basic realm=r"
    script = Script().on(f"POST {REPOSITORY}/blobs/uploads/", said)
    script.ping = Reply(401, headers={"WWW-Authenticate": "Basic realm=r"})
    async with pushing(script, ANN) as (board, upstream):
        await board.ask("POST", "/v2/push/blobs/uploads/")

    assert board.grant.refusal is not None
    assert board.grant.refusal.message.endswith("wrong password (401 UNAUTHORIZED)")
    assert board.grant.refusal.hint == f"docker login {upstream.host}"


async def test_a_layer_that_is_forbidden_is_not_sent_again() -> None:
    """403 under a body is final, also with a challenge: the request that began the upload could have renewed."""
    async with with_tokens("one", "two") as (board, _, script):
        said = refused(403, "DENIED", "the quota is used up")
        said.headers |= script.ping.headers
        script.on(f"PATCH {PLACE}", said)
        answer = await board.ask("PATCH", await board.upload(), LAYER)

    assert (answer.status, "quota" in answer.message) == (403, True)


async def test_an_upload_that_the_registry_lost_is_begun_again() -> None:
    """A registry that restarted knows no uploads: the engine is told to try, not to give up."""
    script = Script().on(f"PATCH {PLACE}", refused(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry"))
    async with pushing(script) as (board, _):
        answer = await board.ask("PATCH", await board.upload(), LAYER)

    assert answer.status == 503


@pytest.mark.parametrize(
    ("reply", "status", "words"),
    [
        (refused(403, "DENIED", "requested access to the resource is denied"), 403, "archloom: cannot push"),
        (refused(401, "UNAUTHORIZED", "authentication required"), 403, "archloom: "),
        (Reply(429, b"You have reached your pull rate limit"), 403, "rate limit"),
        (Reply(502, b"<html>" + b"x" * 200_000), 403, "502"),
        (Reply(500, b"x" * 100, cut=5), 403, "500"),
        (Reply(307, headers={"Location": "/v2/team/app/blobs/uploads/"}), 502, "too many times"),
        (Reply(303, headers={"Location": "/v2/team/app/blobs/uploads/"}), 403, "see other (303)"),
    ],
)
async def test_the_registry_s_words_arrive_in_ours(reply, status, words) -> None:
    """An engine that reads a canonical sentence tries for 50 s; ours carries the registry's words and ends it."""
    script = Script().on(f"POST {REPOSITORY}/blobs/uploads/", reply)
    async with pushing(script) as (board, _):
        answer = await board.ask("POST", "/v2/push/blobs/uploads/")

    assert answer.status == status
    assert words in answer.message
    assert answer.message.startswith("archloom: ")


async def test_the_first_final_refusal_is_the_reason() -> None:
    """Trouble that passes gives way to a refusal, and a refusal of the content to nothing."""
    script = Script().on(
        f"POST {REPOSITORY}/blobs/uploads/",
        refused(503, "UNAVAILABLE", "busy"),
        refused(403, "DENIED", "not now"),
        refused(400, "NAME_INVALID", "the first"),
        refused(400, "NAME_INVALID", "the second"),
        refused(503, "UNAVAILABLE", "busy"),
        Reply(202, headers={"Location": PLACE}),
    )
    async with pushing(script) as (board, _):
        for _ in range(5):
            await board.ask("POST", "/v2/push/blobs/uploads/")

    assert board.grant.refusal is not None
    assert "the first" in board.grant.refusal.message


async def test_a_grant_that_ended_is_no_grant() -> None:
    """The secret of a job that is over opens nothing, not even on a connection it opened before."""
    async with scripted(Script()) as upstream, brokered() as bed:
        with bed.broker.grant("job1", push=Reference(upstream.host, "team/app")) as grant:
            open_board = bed.board(grant)
            board = await open_board.__aenter__()
            before_it = await board.ask("GET", "/v2/")
        after_it = await board.ask("GET", "/v2/")
        await open_board.__aexit__(None, None, None)

    assert (before_it.status, after_it.status) == (200, 401)
