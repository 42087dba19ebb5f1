"""The broker between a real engine and real registries, and against clients that break the rules."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.broker.http1 import ChunkedEnd, WireError
from coordinator.domain.image.references import Reference
from coordinator.domain.secrets import Credential, Secret
from tests.edges.broker.broker_bed import brokered, client_hello
from tests.services.commands import run_limited
from tests.services.fixtures import PASSWORD, USER
from tests.services.images import base_image
from tests.services.judges import docker, docker_login
from tests.services.registry import Registry

# Of this process alone: the engine is everybody's.
IMAGE = f"archloom-test/broker-{uuid4().hex[:12]}:1"


@pytest.fixture
def image(engine: Path, tmp_path: Path) -> Iterator[str]:
    """A small image of this test alone in the engine."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "hello").write_bytes(hashlib.sha256(str(tmp_path).encode()).digest() * 1000)
    run_limited(["tar", "-C", str(tmp_path / "root"), "-cf", str(tmp_path / "root.tar"), "."], check=True)
    docker("import", str(tmp_path / "root.tar"), IMAGE)
    yield IMAGE
    docker("rmi", "-f", IMAGE)


async def docker_push(folder: Path, port: int, user: str, secret: str, repository: str = "push") -> str:
    """What the engine says; its error where it fails."""
    name = f"127.0.0.1:{port}/{repository}:image"
    login = docker_login(folder, f"127.0.0.1:{port}", user, secret)
    docker("tag", IMAGE, name)
    try:
        return await asyncio.to_thread(docker, "--config", str(login), "push", name)
    except subprocess.CalledProcessError as error:
        return str(error.stderr)
    finally:
        docker("rmi", name)


async def raw(port: int, text: bytes) -> bytes:
    """What the broker answers to these bytes until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text)
    await writer.drain()
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def basic(job: str, secret: str) -> str:
    return f"Authorization: Basic {base64.b64encode(f'{job}:{secret}'.encode()).decode()}\r\n"


async def begin_upload(port: int, secret: str) -> bytes:
    head = f"POST /v2/push/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n{secret}\r\n"
    return await raw(port, head.encode())


def location(answer: bytes) -> str:
    return answer.partition(b"Location: ")[2].partition(b"\r\n")[0].decode()


def registry_digest(registry: Registry, repository: str, digest: str) -> bytes:
    from urllib.request import Request, urlopen

    accept = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
    headers = {"Accept": accept, **registry.authorization(repository)}
    with urlopen(Request(f"{registry.url}/v2/{repository}/manifests/{digest}", headers=headers), timeout=10) as found:
        return found.read()


@pytest.mark.engine
async def test_a_real_push_arrives_by_digest(registry, image, tmp_path):
    """The engine pushes by tag; the registry holds the digest the broker saw, and no tag."""
    async with brokered() as (broker, port):
        with broker.grant("job1", push=Reference(registry.address, "broker/app")) as grant:
            said = await docker_push(tmp_path, port, "job1", grant.secret.reveal())

            assert grant.pushed is not None, said
            assert f"digest: {grant.pushed.digest}" in said
    held = registry_digest(registry, "broker/app", grant.pushed.digest)
    assert f"sha256:{hashlib.sha256(held).hexdigest()}" == grant.pushed.digest
    assert not (registry.storage / "docker/registry/v2/repositories/broker/app/_manifests/tags").exists()


@pytest.mark.engine
async def test_credentials_stay_here(password_registry, image, tmp_path):
    """A registry behind a password is pushed to with ours; the board only ever has its job's secret."""
    credential = Credential(username=USER, password=Secret(PASSWORD))
    async with brokered(credential) as (broker, port):
        with broker.grant("job1", push=Reference(password_registry.address, "team/app")) as grant:
            said = await docker_push(tmp_path, port, "job1", grant.secret.reveal())

    assert grant.pushed is not None, said
    assert registry_digest(password_registry, "team/app", grant.pushed.digest)


@pytest.mark.engine
async def test_a_bearer_registry_is_pushed_to(token_registry, image, tmp_path):
    """Tokens are fetched and used by the broker, as Docker Hub and GHCR ask."""
    credential = Credential(username=USER, password=Secret(PASSWORD))
    async with brokered(credential) as (broker, port):
        with broker.grant("job1", push=Reference(token_registry.address, "team/app")) as grant:
            said = await docker_push(tmp_path, port, "job1", grant.secret.reveal())

    assert grant.pushed is not None, said


@pytest.mark.engine
async def test_the_registry_s_refusal_reaches_the_engine_and_us(password_registry, image, tmp_path):
    """Denied upstream: the engine gives up at once, and the grant says why."""
    async with brokered(Credential(username=USER, password=Secret("wrong"))) as (broker, port):
        with broker.grant("job1", push=Reference(password_registry.address, "team/app")) as grant:
            async with asyncio.timeout(5):
                said = await docker_push(tmp_path, port, "job1", grant.secret.reveal())

    assert "archloom:" in said
    assert grant.refusal is not None
    assert grant.refusal.code in ("unauthorized", "denied")


@pytest.mark.engine
@pytest.mark.parametrize(("user", "repository"), [("job2", "push"), ("job1", "base0"), ("job1", "other")])
async def test_only_the_job_s_own_repository_is_there(registry, image, tmp_path, user, repository):
    """A wrong secret, a base and a foreign name are refused within seconds, with words of our own."""
    async with brokered() as (broker, port):
        bases = {"base0": Reference(registry.address, "base", digest="sha256:" + "0" * 64)}
        with broker.grant("job1", push=Reference(registry.address, "broker/app"), bases=bases) as grant:
            async with asyncio.timeout(5):
                said = await docker_push(tmp_path, port, user, grant.secret.reveal(), repository)

    assert "digest: sha256" not in said
    assert grant.pushed is None


@pytest.mark.engine
async def test_a_base_is_pulled_by_its_digest(registry, engine, tmp_path):
    """The engine gets the base through the broker; another digest of the same repository stays hidden."""
    base = base_image(registry, "linux/amd64", "linux/arm64", repository="broker/base")
    wanted, other = base.children["linux/amd64"], base.children["linux/arm64"]
    async with brokered() as (broker, port):
        bases = {"base0": Reference(registry.address, "broker/base", digest=wanted)}
        with broker.grant("job1", bases=bases) as grant:
            login = docker_login(tmp_path, f"127.0.0.1:{port}", "job1", grant.secret.reveal())
            name = f"127.0.0.1:{port}/base0@{wanted}"
            await asyncio.to_thread(docker, "--config", str(login), "pull", name)
            docker("rmi", name)
            answer = await raw(
                port,
                f"GET /v2/base0/manifests/{other} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
                + basic("job1", grant.secret.reveal()).encode()
                + b"\r\n",
            )

    assert answer.startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize("is_index", [False, True])
async def test_an_engine_that_has_the_manifest_of_a_base_gets_its_blobs(registry, is_index):
    """It keeps a manifest for a while after its image is gone, and asks for the blobs alone; for no others."""
    base = base_image(registry, "linux/amd64", "linux/arm64", repository="broker/kept")
    other = base_image(registry, "linux/386", repository="broker/kept")
    child = base.children["linux/arm64"]
    config, foreign = (
        json.loads(registry_digest(registry, "broker/kept", digest))["config"]["digest"]
        for digest in (child, other.children["linux/386"])
    )
    async with brokered() as (broker, port):
        digest = base.digest if is_index else child
        with broker.grant("job1", bases={"base0": Reference(registry.address, "broker/kept", digest=digest)}) as grant:
            answers = [
                await raw(
                    port,
                    f"GET /v2/base0/blobs/{blob} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
                    + basic("job1", grant.secret.reveal()).encode()
                    + b"\r\n",
                )
                for blob in (config, foreign)
            ]

    assert [answer.split(b"\r\n")[0][9:12] for answer in answers] == [b"200", b"404"]


@pytest.mark.parametrize("pieces", [1, 3, 200])
async def test_a_tls_greeting_is_answered_in_clear(pieces):
    """Engines try TLS first, and containerd's turn to HTTP only for an answer that begins so; nothing waits."""
    greeting = client_hello()
    async with brokered() as (_, port), asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        size = -(-len(greeting) // pieces)
        for start in range(0, len(greeting), size):
            writer.write(greeting[start : start + size])
            await writer.drain()
        answer = await reader.readexactly(13)
        writer.write_eof()

        assert answer == b"HTTP/1.0 400 "
        assert (await reader.read()).endswith(b"plain HTTP\n")
        writer.close()
        await writer.wait_closed()


async def test_a_tls_greeting_that_ends_early_holds_nothing():
    """A client that leaves in the middle of its greeting is left."""
    async with brokered() as (_, port), asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(client_hello()[:20])
        writer.write_eof()

        assert (await reader.read()).startswith(b"HTTP/1.0 400 ")
        writer.close()
        await writer.wait_closed()


async def test_without_the_secret_there_is_a_challenge(registry):
    """The ping has to answer 401 with Basic: only then does the engine send its credentials."""
    async with brokered() as (_, port):
        answer = await raw(port, b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 401")
    assert b'WWW-Authenticate: Basic realm="archloom"' in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["errors"][0]["message"].startswith("archloom:")


@pytest.mark.parametrize("secret", ["", "wrong", "other"])
async def test_a_wrong_secret_of_a_job_that_runs_is_refused(registry, secret):
    """Knowing the job's name is not enough, and neither is the secret of another job."""
    push = Reference(registry.address, "broker/app")
    async with brokered() as (broker, port):
        with broker.grant("job1", push=push) as grant, broker.grant("job2", push=push) as other:
            shown = other.secret.reveal() if secret == "other" else secret
            refused = await begin_upload(port, basic("job1", shown))
            begun = await begin_upload(port, basic("job1", grant.secret.reveal()))

    assert refused.startswith(b"HTTP/1.1 401")
    assert begun.startswith(b"HTTP/1.1 202")


@pytest.mark.parametrize(
    "head",
    [
        b"PATCH /v2/push/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"PATCH /v2/push/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n",
        b"NONSENSE\r\n",
    ],
)
async def test_requests_that_could_be_read_in_two_ways_are_refused(registry, head):
    """Smuggling and nonsense end the connection with 400."""
    async with brokered() as (_, port):
        answer = await raw(port, head + b"\r\n")

    assert answer.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "request_line", ["DELETE /v2/push/manifests/sha256:00", "GET /v2/_catalog", "GET /v2/push/tags/list"]
)
async def test_what_a_push_does_not_need_is_refused(registry, request_line):
    """Listing and deleting are nobody's business on a board."""
    async with brokered() as (broker, port):
        with broker.grant("job1", push=Reference(registry.address, "broker/app")) as grant:
            text = (
                f"{request_line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{basic('job1', grant.secret.reveal())}\r\n"
            )
            answer = await raw(port, text.encode())

    assert answer.split(b" ")[1] in (b"404", b"405")
    assert b"archloom:" in answer


async def test_an_upload_of_another_job_does_not_exist(registry):
    """Upload locations are opaque and belong to the grant that opened them."""
    async with brokered() as (broker, port):
        push = Reference(registry.address, "broker/app")
        with broker.grant("job1", push=push) as one, broker.grant("job2", push=push) as two:
            begun = await begin_upload(port, basic("job1", one.secret.reveal()))
            place = location(begun)
            steal = (
                f"PATCH {place} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n{basic('job2', two.secret.reveal())}\r\nx"
            )
            answer = await raw(port, steal.encode())

    assert begun.startswith(b"HTTP/1.1 202")
    assert registry.address.encode() not in begun
    assert answer.startswith(b"HTTP/1.1 404")


async def test_a_body_cut_short_is_no_layer(registry):
    """A board that leaves in the middle of a chunk leaves nothing that looks whole."""
    async with brokered() as (broker, port):
        with broker.grant("job1", push=Reference(registry.address, "broker/cut")) as grant:
            secret = basic("job1", grant.secret.reveal())
            place = location(await begin_upload(port, secret))
            cut = f"PATCH {place} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{secret}\r\n5\r\nhel"

            assert await raw(port, cut.encode()) == b""


async def test_a_large_layer_is_never_held(registry):
    """200 MB pass through while memory stays where it was."""
    piece = b"\0" * 262144
    async with brokered() as (broker, port):
        with broker.grant("job1", push=Reference(registry.address, "broker/large")) as grant:
            secret = basic("job1", grant.secret.reveal())
            place = location(await begin_upload(port, secret))
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = (
                f"PATCH {place} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n{secret}\r\n"
            )
            writer.write(head.encode())
            for _ in range(800):
                writer.write(b"40000\r\n" + piece + b"\r\n")
                await writer.drain()
            writer.write(b"0\r\n\r\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert answer.startswith(b"HTTP/1.1 202")
    assert grown < 40 * 1024


async def test_a_registry_that_is_gone_is_said():
    """Nobody answers upstream: the engine fails at once, since the run waits; the grant says which registry it was."""
    async with brokered() as (broker, port):
        with broker.grant("job1", push=Reference("127.0.0.1:1", "app")) as grant:
            answer = await begin_upload(port, basic("job1", grant.secret.reveal()))

    assert answer.startswith(b"HTTP/1.1 403")
    assert grant.refusal is not None
    assert "127.0.0.1:1" in grant.refusal.message


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.binary(max_size=20), st.data())
def test_the_end_of_a_chunked_body_is_found_however_it_is_split(chunks, after, data):
    """Every split of the bytes gives the same data and the same end; what follows belongs to the next message."""
    body = b"".join(f"{len(chunk):x};x=1\r\n".encode() + chunk + b"\r\n" for chunk in chunks) + b"0\r\nA: b\r\n\r\n"
    stream = body + after
    ends, decoder = ChunkedEnd(), ChunkedEnd()
    used, found, at = 0, b"", 0
    while at < len(stream) and not ends.over:
        stop = data.draw(st.integers(at + 1, len(stream)))
        used += ends.feed(stream[at:stop])
        found += decoder.decode(stream[at:stop])
        at = stop

    assert (used, found, ends.over) == (len(body), b"".join(chunks), True)


@pytest.mark.parametrize("broken", [b"zz\r\n", b"-1\r\n", b"3\r\nabcd\r\n", b"\r\n", b"1" * 5000])
def test_broken_chunks_are_refused(broken):
    """Framing that nobody should send is not guessed at."""
    with pytest.raises(WireError):
        ChunkedEnd().feed(broken)
