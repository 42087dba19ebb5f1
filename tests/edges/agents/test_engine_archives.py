"""Images out of the real engine and bases into it as archives; docker and skopeo judge what a registry then has."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from agents.engine import engines, images
from coordinator.domain.hosts.inventory import RegistrySettings
from coordinator.domain.image.descriptors import DOCKER_MANIFEST
from coordinator.domain.image.platforms import parse
from coordinator.errors import LostError
from coordinator.hosts.agent.client import AgentClient, connect
from coordinator.hosts.agent.local import LocalTransport
from coordinator.hosts.agent.replies import EndState, HeldImage
from coordinator.image.archive_import import import_archive
from coordinator.image.base import base_archive, read_base
from coordinator.registry.client import Registry
from coordinator.registry.copy import copy_blob
from tests.edges.broker.broker_bed import Known
from tests.edges.hosts.agent_bed import chunks, follow, oldest_python, send
from tests.services.commands import run_limited
from tests.services.images import base_image
from tests.services.judges import pulled, ran, skopeo_inspect, skopeo_raw
from tests.services.missing import program
from tests.services.paths import ROOT

pytestmark = [pytest.mark.engine, pytest.mark.registry, pytest.mark.usefixtures("engine")]

AMD64 = parse("linux/amd64")


class Counted:
    """A repository of a real registry as a sink, without any layers known before, and how much is uploaded to it."""

    def __init__(self, registry: Registry, repository: str) -> None:
        self.registry, self.repository = registry, repository
        self.uploads = 0

    async def has(self, digest: str) -> bool:
        return await self.registry.blob_exists(self.repository, digest)

    async def put(self, digest, size, chunks) -> None:
        self.uploads += 1
        await self.registry.upload_blob(self.repository, digest, size, chunks)

    async def put_manifest(self, manifest) -> None:
        await self.registry.put_manifest(self.repository, manifest.digest, manifest.raw, manifest.media_type)

    async def layer(self, diff_id: str) -> None: ...

    def remember(self, diff_id, layer) -> None: ...


@pytest.fixture
async def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AgentClient]:
    """The agent with its real parts."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    transport = LocalTransport((oldest_python(), "-m", "agents"))
    try:
        client = await connect(transport)
        yield client
        await client.close()
    finally:
        await transport.close()


@asynccontextmanager
async def job(client: AgentClient, dockerfile: str, **fields: object) -> AsyncIterator[str]:
    """A job that was created with a context, and is forgotten at the end."""
    run = uuid.uuid4().hex[:8]
    spec = {
        "format": 1,
        "platform": "linux/amd64",
        "engine": "api",
        "dockerfile": dockerfile,
        "dockerfile_path": "Dockerfile",
        "dockerfile_apart": False,
        "stage": "",
        "build_args": {},
        "labels": {},
        "no_cache": True,
        "image": f"archloom/{run}:amd64-1",
        "bases": [],
        "context_key": "0" * 32,
        "has_context": True,
        "limits": {},
        **fields,
    }
    name = f"{run}-amd64-1"
    await client.create(name, spec)
    await send(client, name, a=os.urandom(200_000), b=b"b", Dockerfile=b"FROM x\n")
    try:
        yield name
    finally:
        await client.forget(name)


async def build(client: AgentClient, name: str) -> None:
    await client.start(name, name, 1)
    log, ended = await follow(client, name)
    assert ended.state is EndState.BUILT, log


async def carried(client: AgentClient, name: str, sink: Counted, folder: Path) -> str:
    async with aclosing(client.image(name)) as items:
        held = await anext(items)
        assert isinstance(held, HeldImage)
        what = f"the archive of {name}"
        manifest = await import_archive(items, sink, folder, image_id=held.image_id, wanted=AMD64, what=what)
        return manifest.digest


def upstream(registry) -> Registry:
    return Registry(RegistrySettings(host=registry.address), Known())


async def test_an_image_leaves_as_an_archive(client, registry, tmp_path):
    """What a real engine gives becomes an image that docker runs and skopeo reads; the second time costs nothing."""
    repository = f"archives/{uuid.uuid4().hex[:8]}"
    dockerfile = "FROM scratch\nCOPY a /a\nCOPY b /b\nCOPY a /a\nLABEL l=v\n"
    async with job(client, dockerfile) as name, upstream(registry) as up:
        await build(client, name)
        sink = Counted(up, repository)

        digest = await carried(client, name, sink, tmp_path)
        uploads = sink.uploads
        assert await carried(client, name, sink, tmp_path) == digest

        manifest = await up.get_manifest(repository, digest)
        await up.put_manifest(repository, "1", manifest.raw, manifest.media_type)
        image_id = images.inspect(engines.local_engine(), f"archloom/{name.split('-')[0]}:amd64-1")["Id"]
    assert (uploads, sink.uploads, manifest.media_type) == (4, 4, DOCKER_MANIFEST)
    reference = f"{registry.address}/{repository}:1"
    assert skopeo_inspect(reference)["Labels"]["l"] == "v"
    assert json.loads(skopeo_raw(reference))["config"]["digest"] == image_id
    with pulled(reference, "linux/amd64") as image:
        assert (image["Id"], len(image["RootFS"]["Layers"])) == (image_id, 3)


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
async def test_archives_of_others_are_read(client, registry, tmp_path, form):
    """What skopeo writes of the same image is the same image."""
    repository = f"archives/{uuid.uuid4().hex[:8]}"
    source, file = base_image(registry, "linux/amd64", repository=repository), tmp_path / "archive"
    run_limited(
        [program("skopeo"), "copy", "--src-tls-verify=false", f"docker://{source.reference}", f"{form}:{file}:x:1"],
        check=True,
        capture_output=True,
    )
    async with upstream(registry) as up:
        child = await up.get_manifest(repository, source.children["linux/amd64"])
        config = json.loads(child.raw)["config"]["digest"]
        sink = Counted(up, f"{repository}/copy")

        manifest = await import_archive(
            chunks(file.read_bytes()), sink, tmp_path, image_id=config, wanted=AMD64, what=str(file)
        )

        await up.put_manifest(sink.repository, "1", manifest.raw, manifest.media_type)
        with pulled(f"{registry.address}/{sink.repository}:1", "linux/amd64") as image:
            assert image["Id"] == config


async def test_bases_arrive_as_archives(client, registry, tmp_path):
    """Loaded under their held names, built from, not sent again, and gone with the last job that names them."""
    repository = f"archives/{uuid.uuid4().hex[:8]}"
    source = base_image(registry, "linux/amd64", repository=repository)
    digest = source.children["linux/amd64"]
    held = f"localhost:1/library/base:1-{uuid.uuid4().hex[:8]}"
    bases = [{"name": held, "repository": "base0", "digest": digest, "platform": "linux/amd64"}]
    dockerfile = f"FROM {held}\nCOPY b /b\nRUN cat /b >/c\n"
    async with (
        upstream(registry) as up,
        job(client, dockerfile, bases=bases) as first,
        job(client, dockerfile, bases=bases) as second,
    ):
        image = await read_base(up, repository, digest)
        assert await client.lacking(first) == (held,)
        assert (await client.load(first, base_archive([(held, image)]))).loaded == 1
        assert await client.lacking(second) == ()
        assert (await client.load(second, base_archive([(held, image)]))).kept == 1
        assert images.inspect(engines.local_engine(), held)["Id"] == image.config.digest
        await build(client, first)
        sink = Counted(up, repository)
        result = await carried(client, first, sink, tmp_path)
        manifest = await up.get_manifest(repository, result)
        await up.put_manifest(repository, "child", manifest.raw, manifest.media_type)
        await client.forget(first)
        assert images.inspect(engines.local_engine(), held) is not None
    assert images.inspect(engines.local_engine(), held) is None
    with pulled(f"{registry.address}/{repository}:child", "linux/amd64"):
        assert ran(f"{registry.address}/{repository}:child", "linux/amd64", "cat", "/c") == "b"


async def test_what_is_no_archive_is_the_engine_s_word(client, registry):
    """A cut, nonsense, and an archive of something else: an error each, and nothing is held under the name."""
    held = f"localhost:1/library/base:1-{uuid.uuid4().hex[:8]}"
    source = base_image(registry, "linux/amd64", repository="archives/other")
    bases = [{"name": held, "repository": "base0", "digest": source.digest, "platform": "linux/amd64"}]
    other = f"localhost:1/library/other:1-{uuid.uuid4().hex[:8]}"
    async with upstream(registry) as up, job(client, f"FROM {held}\n", bases=bases) as name:
        image = await read_base(up, "archives/other", source.children["linux/amd64"])
        whole = b"".join([piece async for piece in base_archive([(other, image)])])
        for sent, code in ((whole, "engine"), (whole[: len(whole) // 2], "base"), (b"nonsense" * 1000, "base")):
            with pytest.raises(LostError) as lost:
                await client.load(name, chunks(sent))
            assert lost.value.code == code, lost.value.message
        assert await client.lacking(name) == (held,)
        images.untag(engines.local_engine(), other)


async def test_an_image_that_is_not_there(client):
    """A job that was not built, and one that nobody knows."""
    async with job(client, "FROM scratch\n") as name:
        for asked, code in ((name, "not_built"), ("nobody-1", "unknown_job")):
            with pytest.raises(LostError) as lost:
                async with aclosing(client.image(asked)) as items:
                    await anext(items)
            assert lost.value.code == code


async def test_a_base_s_blob_is_shared_within_a_registry(registry):
    """Mounted where both are on one registry: nothing is read, nothing is sent."""
    repository = f"archives/{uuid.uuid4().hex[:8]}"
    source = base_image(registry, "linux/amd64", repository=repository)
    async with upstream(registry) as up:
        image = await read_base(up, repository, source.children["linux/amd64"])
        await copy_blob(up, repository, image.layers[0], up, f"{repository}/child")
        assert await up.blob_exists(f"{repository}/child", image.layers[0].digest)


@pytest.mark.slow
async def test_memory_stays_flat_however_large_a_layer_is(client, registry, tmp_path):
    """200 MB that cannot be compressed leave one process and go through the other: neither grows with them."""
    repository = f"archives/{uuid.uuid4().hex[:8]}"
    noise = os.urandom(1 << 20)
    async with job(client, "FROM scratch\nCOPY large /large\n") as name, upstream(registry) as up:
        await send(client, name, large=noise * 200)
        await build(client, name)
        sink, seen = Counted(up, repository), 0
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = memory("self", "VmRSS")
        async with aclosing(client.image(name)) as items:
            held = await anext(items)

            async def watched():
                nonlocal seen
                process = agent_of(name)
                async for piece in items:
                    seen = max(seen, memory(process, "VmHWM"))
                    yield piece

            await import_archive(watched(), sink, tmp_path, image_id=held.image_id, wanted=AMD64, what=name)
        grown = memory("self", "VmHWM") - before
    assert held.size >= 200 << 20
    assert sink.uploads == 2
    assert grown < 32 << 20
    assert seen < 48 << 20


def memory(process: str, what: str) -> int:
    """Bytes, as the kernel counts them."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(what))


def agent_of(job: str) -> str:
    """The process that sends the job's image."""
    words = [b"image", job.encode()]
    found = [path for path in Path("/proc").glob("[0-9]*/cmdline") if path.read_bytes().split(b"\0")[-3:-1] == words]
    return found[0].parent.name
