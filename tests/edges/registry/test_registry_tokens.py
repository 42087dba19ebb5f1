"""Tokens and credentials on the wire: asked for once, renewed when they die, shown to nobody else."""

from __future__ import annotations

import json

import pytest

from coordinator.errors import RegistryError
from coordinator.registry.client import PULL, PUSH
from tests.edges.registry.scripted_registry import (
    ANN,
    BLOB,
    BLOB_DIGEST,
    DIGEST,
    PING,
    RAW,
    after_ping,
    client,
    error_reply,
    manifest_reply,
)
from tests.edges.registry.scripted_server import HostSelection, Reply, Script, Scripted, scripted


def token_registry(tokens: list[str], good: set[str], served: Reply, host: list[str]) -> Script:
    """A registry with bearer tokens and its token server in one."""

    def script(asked: HostSelection) -> Reply:
        if asked.path == "/token":
            token = tokens.pop(0) if len(tokens) > 1 else tokens[0]
            return Reply(200, json.dumps({"token": token}).encode())
        if asked.authorization.removeprefix("Bearer ") in good:
            return served
        challenge = f'Bearer realm="http://{host[0]}/token",service="s, t",error="invalid_token"'
        return Reply(401, error_reply(401, "UNAUTHORIZED", "token please").body, {"WWW-Authenticate": challenge})

    return script


async def test_bearer_flow() -> None:
    """The challenge is asked for once; every later request carries its token from the start."""
    host = [""]
    async with client(token_registry(["good"], {"good"}, manifest_reply(), host)) as (registry, server, _):
        host[0] = server.host
        await registry.get_manifest("app", DIGEST)
        await registry.get_manifest("app", DIGEST)
        shown = await registry.authorization("app", PULL)

    got = f"GET /v2/app/manifests/{DIGEST}"
    assert ["GET /v2/", "GET /token", got, got] == server.lines()
    assert shown.headers == {"Authorization": "Bearer good"}
    assert ("service", "s, t") in server.asked[1].query


async def test_token_dies_in_the_middle() -> None:
    """A kept token that is refused is renewed, and the request sent again."""
    host, good = [""], {"one"}
    async with client(token_registry(["one", "two"], good, manifest_reply(), host)) as (registry, server, _):
        host[0] = server.host
        await registry.get_manifest("app", DIGEST)
        good.clear()
        good.add("two")
        await registry.get_manifest("app", DIGEST)

    assert server.lines().count("GET /token") == 2


async def test_endless_401() -> None:
    """A fresh token that is refused ends it: no loop, no pause."""
    host = [""]
    async with client(token_registry(["bad"], set(), PING, host), ANN) as (registry, server, pauses):
        host[0] = server.host
        with pytest.raises(RegistryError, match="token please") as refused:
            await registry.get_manifest("app", DIGEST)

    assert (refused.value.code, len(server.asked), pauses.seconds) == ("unauthorized", 3, [])


async def test_renewed_authorization() -> None:
    """Who does requests of its own gets another authorization for a refused one; Basic credentials have none."""
    host = [""]
    async with client(token_registry(["one", "two"], {"one"}, PING, host)) as (registry, server, _):
        host[0] = server.host
        await registry.authorization("app", PUSH)
        kept = await registry.authorization("app", PUSH)
        renewed = await registry.renewed_authorization(kept, "")

        assert renewed is not None
        assert renewed.headers == {"Authorization": "Bearer two"}

    basic = Reply(401, headers={"WWW-Authenticate": 'Basic realm="r"'})
    async with client(lambda _: basic, ANN) as (registry, _, _):
        shown = await registry.authorization("app", PUSH)
        assert shown.headers["Authorization"].startswith("Basic ")
        assert await registry.renewed_authorization(shown, 'Basic realm="r"') is None


async def test_token_server_is_busy() -> None:
    """A token server may be busy for a while too."""
    busy = [Reply(503), Reply(429, headers={"Retry-After": "3"})]

    def script(asked: HostSelection) -> Reply:
        if asked.path == "/token":
            return busy.pop(0) if busy else Reply(200, b'{"token": "t"}')
        if asked.authorization == "Bearer t":
            return manifest_reply()
        return Reply(401, headers={"WWW-Authenticate": f'Bearer realm="http://{asked.headers["host"]}/token"'})

    async with client(script) as (registry, _, pauses):
        await registry.get_manifest("app", DIGEST)

    assert pauses.seconds == [0.5, 3.0]


def redirecting(to: Scripted) -> Script:
    """A registry with Basic credentials whose blobs are elsewhere."""

    def script(asked: HostSelection) -> Reply:
        if not asked.authorization:
            return Reply(401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        return PING if asked.path == "/v2/" else Reply(307, headers={"Location": f"http://{to.host}/blob?sig=1"})

    return script


async def test_blob_redirect_leaks_nothing() -> None:
    """A blob may come from another host, where our credentials do not go."""
    async with (
        scripted(lambda _: Reply(200, BLOB)) as elsewhere,
        client(redirecting(elsewhere), ANN) as (registry, server, _),
    ):
        assert await registry.get_blob("app", BLOB_DIGEST, len(BLOB)) == BLOB

    assert server.asked[-1].authorization.startswith("Basic ")
    assert [(asked.authorization, asked.path) for asked in elsewhere.asked] == [("", "/blob")]


async def test_challenge_from_elsewhere_is_ignored() -> None:
    """Credentials go to nobody but the registry, whoever asks for them."""
    elsewhere_asks = Reply(401, headers={"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:1/token"'})
    async with scripted(lambda _: elsewhere_asks) as elsewhere, client(redirecting(elsewhere), ANN) as (registry, _, _):
        with pytest.raises(RegistryError) as refused:
            await registry.get_blob("app", BLOB_DIGEST, len(BLOB))

    assert refused.value.code == "unauthorized"
    assert [asked.authorization for asked in elsewhere.asked] == [""]


async def test_mount_asks_for_two_scopes() -> None:
    """A mount's token is for both repositories, in one request."""
    host = [""]
    async with client(token_registry(["good"], {"good"}, Reply(201), host)) as (registry, server, _):
        host[0] = server.host
        await registry.mount_blob("app", BLOB_DIGEST, "lib/base")

    token = next(asked for asked in server.asked if asked.path == "/token")
    scopes = [value for name, value in token.query if name == "scope"]
    assert scopes == ["repository:app:pull,push", "repository:lib/base:pull"]


async def test_a_challenge_that_was_a_proxy_s_own_is_forgotten() -> None:
    """A registry without a password, behind a proxy that asks for one while it restarts."""
    asks = Reply(401, headers={"WWW-Authenticate": 'Basic realm="proxy"'})
    async with client(after_ping(asks, manifest_reply())) as (registry, _, _):
        for _ in range(2):
            with pytest.raises(RegistryError, match="none are stored") as refused:
                await registry.get_manifest("app", DIGEST)
            assert refused.value.code == "unauthorized"

        registry.start_over()

        assert (await registry.get_manifest("app", DIGEST)).raw == RAW
