"""A context from a folder here to a job there, through a real agent: exact, only what lacks, whole or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import random
import sys
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.context.object_stream import Bodies
from coordinator.context.offer import ContextOffer, offer
from coordinator.context.tree import scan
from coordinator.domain.dockerfile.dockerignore import compile_ignore
from coordinator.domain.inputs.build_id import context_digest
from coordinator.errors import LostError, UsageError
from coordinator.hosts.agent.client import AgentClient, connect
from coordinator.hosts.agent.context import MissingFiles
from coordinator.hosts.agent.local import LocalTransport
from coordinator.hosts.agent.replies import ContextReceived
from tests.edges.agents.transfer_bed import seen
from tests.edges.hosts.agent_bed import SPEC, STAND_IN, agent, begin, places, ready, send
from tests.edges.hosts.test_agent_jobs import small_disk
from tests.services.commands import run_limited
from tests.services.paths import CASES, ROOT

WIRE = CASES / "wire"
ALL = compile_ignore("")
EMPTY = hashlib.sha256().hexdigest()
ODD_NAMES = (b"new\nline", b"caf\xc3\xa9", b"not\xff\xfeutf8", b"-rf", b" ", b"back\\slash", b"l" * 255, b"'\"$`")


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with places(tmp_path, monkeypatch):
        yield


async def offered(folder: Path) -> ContextOffer:
    return await offer(await scan(folder, ALL))


async def job(client: AgentClient, name: str) -> Path:
    await client.create(name, {**SPEC, "image": f"archloom/test:{name}"})
    return Path(client.hello.state, "jobs", name)


def nothing(_: MissingFiles) -> None:
    pass


def random_tree(root: Path, seed: int, sizes: tuple[int, ...] = (0, 1, 100, 65536, 300_000)) -> None:
    """Files of many sizes, modes and times, links, empty and closed folders, odd names, the same content twice."""
    choose = random.Random(seed)
    folders = [root]
    for number in range(choose.randrange(40)):
        name = choose.choice([*ODD_NAMES, b"n%d" % number])
        path = choose.choice(folders) / os.fsdecode(name)
        if os.path.lexists(path):
            continue
        match choose.randrange(5):
            case 0:
                path.mkdir()
                folders.append(path)
            case 1:
                path.symlink_to(os.fsdecode(choose.choice(ODD_NAMES)))
            case _:
                size = choose.choice(sizes)
                path.write_bytes(choose.choice([bytes(size), choose.randbytes(size)]))
                path.chmod(choose.choice([0o644, 0o755, 0o600, 0o4711, 0o400]))
        os.utime(path, ns=(0, choose.choice([-1, 7, 1763930000_123456789])), follow_symlinks=False)
    for folder in folders[:0:-1]:
        folder.chmod(choose.choice([0o755, 0o555, 0o700, 0o2775]))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), pack=st.booleans())
def test_any_tree_arrives_as_it_is(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, seed: int, *, pack: bool):
    """Byte for byte, with modes, times and links; the host then has the same context by its digest."""
    root = tmp_path_factory.mktemp("tree")
    random_tree(root, seed)

    async def run() -> None:
        async with agent() as client:
            folder = await job(client, f"a-{seed}")
            received = await client.send_context(f"a-{seed}", await offered(root), nothing, pack=pack)
            here, there = seen(root), seen(folder / "context")
            assert here == there
            assert received.entries == len(here)
            manifests = [await scan(path, ALL) for path in (root, folder / "context")]
            assert len({context_digest(manifest.entries) for manifest in manifests}) == 1
            await client.forget(f"a-{seed}")

    asyncio.run(run())


async def test_only_what_lacks_is_sent(tmp_path: Path):
    """The second job of a context costs nothing but a question; a changed file costs itself; each is told first."""
    root, told = tmp_path / "tree", []
    root.mkdir()
    for number in range(300):
        (root / f"f{number}").write_bytes(b"%d" % number * 100)
    async with agent() as client:
        for name in ("a-1", "b-1", "c-1"):
            await job(client, name)
            received = await client.send_context(name, await offered(root), told.append)
            told.append(received.received)
            (root / "f7").write_text("changed")

    assert told == [MissingFiles(300, 300, 79000), 79000, MissingFiles(1, 300, 7), 7, MissingFiles(0, 300, 0), 0]


async def test_how_far_a_context_is_sent_is_told_on_the_way(tmp_path: Path):
    """In bytes of the files, also where they travel compressed; the last word is all of them."""
    root, sent = tmp_path / "tree", []
    root.mkdir()
    for number in range(8):
        (root / f"f{number}").write_bytes(bytes([number]) * 500_000)
    async with agent() as client:
        await job(client, "a-1")
        await client.send_context("a-1", await offered(root), nothing, pack=True, progress=sent.append)

    assert sent == sorted(sent)
    assert sent[-1] == 8 * 500_000


class Cut:
    """A bulk channel that breaks after so many bytes from here, as a connection does."""

    def __init__(self, limit: int) -> None:
        self._transport = LocalTransport((sys.executable, STAND_IN))
        self._left = limit
        self._channel: Any = None
        self.host = self._transport.host
        self.open_control = self._transport.open_control
        self.listen = self._transport.listen
        self.close = self._transport.close

    async def open_bulk(self, arguments: tuple[str, ...]) -> Cut:
        self._channel = await self._transport.open_bulk(arguments)
        self.reader, self.writer = self._channel.reader, self
        self.close, self.abort = self._channel.close, self._channel.abort
        return self

    def write(self, data: bytes) -> None:
        self._channel.writer.write(data[: self._left])
        self._left -= len(data)

    def write_eof(self) -> None:
        self._channel.writer.write_eof()

    async def drain(self) -> None:
        await self._channel.writer.drain()
        if self._left < 0:
            self._channel.writer.close()
            raise ConnectionResetError("cut")


async def test_a_lost_connection_leaves_the_context_there_was(tmp_path: Path):
    """Wherever it breaks; and the next try sends what had not come."""
    root = tmp_path / "tree"
    root.mkdir()
    for cut in (10, 500, 150_000, 1_000_001, 1_999_999):
        for number in range(20):
            (root / f"f{number}").write_bytes(os.urandom(100_000))
        async with agent() as client:
            folder = await ready(client, f"a-{cut}")
            transport = Cut(cut)
            control = await connect(transport)
            end = transport.close
            with pytest.raises(LostError) as lost:
                await control.send_context(f"a-{cut}", await offered(root), nothing)
            assert lost.value.code == "cut"
            assert (folder / "context/file").read_bytes() == b"content"
            assert not (folder / "context.partial").exists()
            await control.close()
            await end()
            received = await client.send_context(f"a-{cut}", await offered(root), nothing)
            assert received.received <= max(0, 2_000_000 - (cut - 200_000))
            assert seen(folder / "context") == seen(root)


async def test_a_file_that_changes_while_it_is_sent_ends_the_transfer(tmp_path: Path):
    """The user is told which; the job has the context it had."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").write_text("before")
    found = await offered(tmp_path / "tree")
    (tmp_path / "tree/f").write_text("after it")
    async with agent() as client:
        folder = await ready(client, "a-1")
        with pytest.raises(UsageError, match="f changed while the context was read"):
            await client.send_context("a-1", found, nothing)
        assert (folder / "context/file").read_bytes() == b"content"
        assert not (folder / "context.partial").exists()


class Lying:
    """An offer that is not what it says: for what only a defect, or another program, would send."""

    def __init__(self, real: ContextOffer, content: bytes) -> None:
        self.root, self.entries, self.files, self.size = real.root, real.entries, real.files, real.size
        self.folder, self.file_size = real.folder, real.file_size
        self._content = content

    def content(self, _: str) -> Generator[bytes]:
        yield self._content


async def test_a_host_that_gets_other_content_says_so(tmp_path: Path):
    """A change is seen here first: what only the host sees is damage, or a lie, and ends no other host's work."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").write_text("before")
    async with agent() as client:
        await ready(client, "a-1")
        with pytest.raises(LostError, match="'f' differs from the offer") as changed:
            await client.send_context("a-1", Lying(await offered(tmp_path / "tree"), b"behind"), nothing)
    assert changed.value.code == "protocol"


async def test_a_refused_context_is_answered_before_it_is_all_sent():
    """The host's reason arrives, also where it has stopped to listen."""
    async with agent() as client:
        with pytest.raises(LostError) as unknown:
            await send(client, "nobody", file=bytes(8 << 20))
        await begin(client, "a-1", ("wait", None))
        with pytest.raises(LostError, match="'context' \\(started\\)") as started:
            await send(client, "a-1", file=bytes(8 << 20))
    assert (unknown.value.code, started.value.code) == ("unknown_job", "protocol")


async def test_two_transfers_at_once_are_safe(tmp_path: Path):
    """Two jobs each get all, and the third finds what they left. Of one job the second ends the first.

    The connection of the first has broken, or its coordinator was replaced.
    """
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(20):
        (root / f"f{number}").write_bytes(os.urandom(200_000))
    async with agent() as client, agent() as other:
        folders = [await job(client, name) for name in ("a-1", "b-1", "c-1")]
        found = await offered(root)
        both = (one.send_context(f"{name}-1", found, nothing) for one, name in ((client, "a"), (other, "b")))
        await asyncio.gather(*both)
        assert (await client.send_context("c-1", found, nothing)).received == 0
        assert seen(folders[0] / "context") == seen(folders[1] / "context") == seen(folders[2] / "context")
        under_way = await LocalTransport((sys.executable, STAND_IN)).open_bulk(("context", "a-1"))
        under_way.writer.write(b'{"root": "%b", "entries": 1, "bytes": 1}\n' % (b"0" * 64))
        assert b"want" in await under_way.reader.readuntil(b"}\n")
        assert (await client.send_context("a-1", found, nothing)).entries == 20
        assert (await under_way.close()).exit_status != 0


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ('{"want": "files", "digests": ["%s"], "more": false}' % ("0" * 64), "which it was not offered"),
        ('{"want": "folders", "digests": ["../x"], "more": false}', "which it was not offered"),
        ('{"want": "secrets", "digests": [], "more": false}', "it asks for 'secrets'"),
        ('{"want": "files", "digests": 7, "more": false}', "'digests' is 7"),
        ('{"want": "files", "digests": [], "more": false}', "it asks for nothing"),
        ('{"want": "files", "digests": [{}], "more": false}', "'digests.0' is {}, expected a valid string"),
        (f'{{"want": "files", "digests": ["{EMPTY}"]}}', "'more' is None"),
        (f'{{"want": "files", "digests": ["{EMPTY}"], "more": true}}', "a request for files that has no end"),
        (f'{{"want": "files", "digests": {json.dumps([EMPTY] * 4)}, "more": false}}', "again and again"),
        ('{"ok": {"entries": 0}}', "'bytes' is missing"),
    ],
)
async def test_a_host_gets_only_what_it_was_offered(tmp_path: Path, said: str, message: str):
    """An agent that asks for anything else, or in another way, is none of ours."""
    script = f"""if [ $1 = serve ]; then cat {WIRE}/hello.txt -; else echo 'archloom-agent {said}
archloom-agent {{"ok": {{}}}}'; cat >/dev/null; fi"""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").touch()
    async with agent("sh", "-c", script, "sh") as client:
        with pytest.raises(LostError, match=message) as odd:
            await client.send_context("a-1", await offered(tmp_path / "tree"), nothing)
    assert odd.value.code == "protocol"


async def test_the_golden_transfer_is_had(tmp_path: Path):
    """The opening is the golden line, and the answers are the golden objects in the order of the golden questions."""
    root = tmp_path / "tree"
    (root / "src").mkdir(parents=True)
    (root / "src/run").write_text("#!/bin/sh\n")
    (root / "src/run").chmod(0o755)
    (root / "zero").touch(0o644)
    (root / "zero").chmod(0o644)
    (root / "ümlaut").symlink_to("not\udcffutf8")
    (root / "src").chmod(0o755)
    for name, time in (("src/run", 7), ("zero", 7), ("ümlaut", 1), ("src", 1763930000_123456789)):
        os.utime(root / name, ns=(0, time), follow_symlinks=False)
    opening, *said = (WIRE / "context.jsonl").read_bytes().splitlines()
    (tmp_path / "said").write_bytes(b"".join(b"archloom-agent %b\n" % line for line in said))
    script = f"if [ $1 = serve ]; then cat {WIRE}/hello.txt -; else cat {tmp_path}/said; cat >{tmp_path}/kept; fi"

    async with agent("sh", "-c", script, "sh") as client:
        received = await client.send_context("a-1", await offered(root), nothing)

    assert received == ContextReceived(entries=4, bytes=10, files=2, received=10)
    line, _, bodies = (tmp_path / "kept").read_bytes().partition(b"\n")
    assert line == opening
    came = Bodies(io.BytesIO(bodies))
    folders = (WIRE / "folders.jsonl").read_bytes().splitlines()
    assert [b"".join(came.body(1000)) for _ in range(4)] == [*folders, b"", b"#!/bin/sh\n"]


async def test_a_cancelled_transfer_leaves_nothing(tmp_path: Path):
    """No thread, no open file here; no context there."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").write_bytes(bytes(50 << 20))
    found = await offered(tmp_path / "tree")
    async with agent() as client:
        folder = await job(client, "a-1")
        before = {path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
        task = asyncio.create_task(client.send_context("a-1", found, lambda _: task.cancel()))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert {path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()} <= before
        assert sorted(path.name for path in folder.iterdir()) == ["context.lock", "spec.json"]


async def test_room_is_made_of_what_no_job_needs(tmp_path: Path):
    """On a small disk what an ended job left makes way for the next context, which does not fit beside it."""
    with small_disk(tmp_path / "state"):
        async with agent() as client:
            for number in range(3):
                name = f"a-{number}"
                folder = await job(client, name)
                await send(client, name, file=bytes([number]) * 600_000)
                assert (folder / "context/file").stat().st_size == 600_000
                await client.forget(name)


async def test_a_context_of_before_a_restart_is_none():
    """A power cut leaves files with holes: the job does not start, and what is sent again is whole."""
    async with agent() as client:
        folder = await ready(client, "a-1")
        (folder / "context.boot").write_text("another boot")
        with pytest.raises(LostError) as lost:
            await client.start("a-1", "test", 1)
        assert lost.value.code == "no_context"
        await send(client, "a-1", file=b"content")
        assert (await client.start("a-1", "test", 1)).pid


def test_memory_does_not_grow_with_the_context(tmp_path: Path):
    """200 MB in one file and 5,000 small ones need no more memory than a few MiB, here and there."""
    root = tmp_path / "tree"
    (root / "many").mkdir(parents=True)
    for number in range(5000):
        (root / "many" / str(number)).touch()
    with (root / "big").open("wb") as file:
        for _ in range(200):
            file.write(os.urandom(1 << 20))
    program = (
        "import asyncio, resource, sys\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from tests.edges.hosts.agent_bed import SPEC, agent\n"
        "from coordinator.context.offer import offer\n"
        "from coordinator.context.tree import scan\n"
        "from coordinator.domain.dockerfile.dockerignore import compile_ignore\n"
        "async def run(root):\n"
        "    async with agent() as client:\n"
        "        await client.create('a-1', SPEC)\n"
        "        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "        offered = await offer(await scan(root, compile_ignore('')))\n"
        "        sent = await client.send_context('a-1', offered, print, pack=True)\n"
        "    here = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "    there = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
        "    print(sent.bytes, here, there)\n"
        "asyncio.run(run(Path(sys.argv[1])))\n"
    )

    command = [sys.executable, "-c", program, root, ROOT]
    said = run_limited(command, capture_output=True, text=True, check=True).stdout

    size, here, there = map(int, said.splitlines()[-1].split())
    assert size == 200 << 20
    assert here < 24 * 1024
    # An interpreter with the agent's modules takes 25 MiB or so.
    assert there < 64 * 1024
    with suppress(FileNotFoundError):
        (root / "big").unlink()
