"""What the real engine and skopeo make of the broker when something is in the way, and of indexes."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import tarfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from coordinator.broker.grant import Grant
from coordinator.domain.image.descriptors import OCI_INDEX
from coordinator.domain.image.references import Reference
from tests.edges.broker.broker_bed import brokered, listening
from tests.services.commands import run_limited
from tests.services.images import base_image
from tests.services.judges import docker, docker_login, pulled, skopeo_copy, skopeo_raw
from tests.services.missing import program
from tests.services.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.registry]

SIZE = 8 * 1024 * 1024


@pytest.fixture(scope="module")
def image(engine: Path) -> Iterator[str]:
    """An image of one layer that does not compress."""
    name = f"archloom-test/layer-{uuid4().hex[:12]}:1"
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("noise")
        entry.size = SIZE
        tar.addfile(entry, io.BytesIO(os.urandom(SIZE)))
    run_limited([program("docker"), "import", "-", name], input=archive.getvalue(), check=True, capture_output=True)
    yield name
    docker("rmi", "-f", name)


async def pushed(image: str, folder: Path, port: int, grant: Grant) -> tuple[str, float]:
    """What the engine says of a push, error or not, and the seconds it took."""
    authority = f"127.0.0.1:{port}"
    login = docker_login(folder, authority, grant.job, grant.secret.reveal())
    docker("tag", image, f"{authority}/push:image")
    begun = time.monotonic()
    try:
        said = await asyncio.to_thread(docker, "--config", str(login), "push", f"{authority}/push:image")
    except subprocess.CalledProcessError as error:
        said = str(error.stderr)
    finally:
        docker("rmi", f"{authority}/push:image")
    return said, time.monotonic() - begun


async def test_a_second_push_sends_nothing(registry: Registry, image: str, tmp_path: Path) -> None:
    """Layers the registry has are found by HEAD, also through another port."""
    digests = set()
    for repeat in range(2):
        async with brokered() as (broker, port):
            with broker.grant("job1", push=Reference(registry.address, "engine/twice")) as grant:
                said, _ = await pushed(image, tmp_path, port, grant)
                assert grant.pushed is not None, said
                digests.add(grant.pushed.digest)
                assert bool(grant.uploads) is False
                assert ("Layer already exists" in said) is bool(repeat), said

    assert len(digests) == 1


@asynccontextmanager
async def in_the_way(registry: Registry, limit: int) -> AsyncIterator[tuple[int, list[int]]]:
    """A registry's address whose first connection to send more than `limit` bytes is cut there."""
    cuts: list[int] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, allowed: float) -> None:
        while data := await reader.read(65536):
            allowed -= len(data)
            if allowed < 0 and not cuts:
                cuts.append(1)
                raise ConnectionError
            writer.write(data)
            await writer.drain()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = registry.address.rpartition(":")
        up, down = await asyncio.open_connection(host, int(port))
        ways = [
            asyncio.ensure_future(relay(reader, down, limit)),
            asyncio.ensure_future(relay(up, writer, float("inf"))),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Before the wait: the end of the test may cancel it.
            down.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async with listening(connection) as port:
        yield port, cuts


async def test_a_registry_that_breaks_under_a_layer_ends_the_push_at_once(
    registry: Registry, image: str, tmp_path: Path
) -> None:
    """The engine does not retry for 50 s without a word: the run waits, and the next push is whole."""
    async with in_the_way(registry, SIZE // 2) as (way, cuts), brokered() as (broker, port):
        push = Reference(f"127.0.0.1:{way}", "engine/cut")
        with broker.grant("job1", push=push) as grant:
            said, seconds = await pushed(image, tmp_path, port, grant)
        with broker.grant("job1", push=push) as second:
            again, _ = await pushed(image, tmp_path, port, second)

    assert cuts == [1]
    assert grant.pushed is None, said
    assert "archloom: " in said
    assert (grant.refusal.code, grant.refusal.registry) == ("unreachable", f"127.0.0.1:{way}")
    assert seconds < 4
    assert second.pushed is not None, again


async def test_a_refusal_under_a_layer_is_the_engine_s_error(image: str, tmp_path: Path) -> None:
    """The registry's words reach the user at once, although the engine was still sending."""
    refusals = 0

    async def full(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal refusals
        while True:
            try:
                line = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]
            except asyncio.IncompleteReadError:
                return
            match line.split(b" ")[0]:
                case b"GET":
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                case b"HEAD":
                    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                case b"POST":
                    writer.write(b"HTTP/1.1 202 Accepted\r\nLocation: /v2/up/1\r\nContent-Length: 0\r\n\r\n")
                case _:
                    refusals += 1
                    body = b'{"errors":[{"code":"DENIED","message":"the quota of team is used up"}]}'
                    writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                    await writer.drain()
                    # Nothing more is read: the layer cannot be sent to its end.
                    await asyncio.Event().wait()

    async with listening(full) as full_port, brokered() as (broker, port):
        with broker.grant("job1", push=Reference(f"127.0.0.1:{full_port}", "engine/full")) as grant:
            said, seconds = await pushed(image, tmp_path, port, grant)

    assert "the quota of team is used up" in said
    assert seconds < 5
    assert refusals == 1
    assert grant.refusal is not None
    assert grant.refusal.code == "denied"


async def test_an_index_is_pushed_by_digest_children_and_all(registry: Registry) -> None:
    """What Docker 29 does by default, done here by skopeo: no tag appears upstream, and the bytes are the same."""
    base = base_image(registry, "linux/amd64", "linux/arm64", repository="engine/source")
    async with brokered() as (broker, port):
        with broker.grant("job1", push=Reference(registry.address, "engine/index")) as grant:
            credentials = f"job1:{grant.secret.reveal()}"
            await asyncio.to_thread(
                skopeo_copy, base.reference, f"127.0.0.1:{port}/push:image", credentials=credentials
            )

    assert grant.pushed is not None
    assert (grant.pushed.digest, grant.pushed.media_type) == (base.digest, OCI_INDEX)
    assert not (registry.storage / "docker/registry/v2/repositories/engine/index/_manifests/tags").exists()
    held = await asyncio.to_thread(skopeo_raw, f"{registry.address}/engine/index@{base.digest}")
    assert len(held) == grant.pushed.size


async def test_a_base_that_is_an_index_gives_its_children(registry: Registry, engine: Path, tmp_path: Path) -> None:
    """The engine resolves a pinned index to the platform it wants, and reads that child's blobs."""
    base = base_image(registry, "linux/amd64", "linux/arm64", repository="engine/base")
    async with brokered() as (broker, port):
        bases = {"base0": Reference(registry.address, "engine/base", digest=base.digest)}
        with broker.grant("job1", bases=bases) as grant:
            login = docker_login(tmp_path, f"127.0.0.1:{port}", "job1", grant.secret.reveal())

            def architecture() -> str:
                name = f"127.0.0.1:{port}/base0@{base.digest}"
                with pulled(name, "linux/arm64", login=login) as image:
                    return str(image["Architecture"])

            assert await asyncio.to_thread(architecture) == "arm64"
