"""A folder becomes a manifest, and the manifest a tar stream that is exactly it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from agents.unpack import unpack
from coordinator.context.tar import stream
from coordinator.context.tree import BUFFER, ContextManifest, scan
from coordinator.domain.build_id import EntryKind, context_digest
from coordinator.domain.dockerignore import compile_ignore
from coordinator.errors import UsageError

ALL = compile_ignore("")
ODD_NAMES = (b"new\nline", b"caf\xc3\xa9", b"not\xff\xfeutf8", b"-rf", b" ", b"back\\slash", b"l" * 255, b"'\"$`")


async def packed(manifest: ContextManifest) -> bytes:
    async with aclosing(stream(manifest)) as chunks:
        return b"".join([chunk async for chunk in chunks])


def write(root: Path, **files: str) -> None:
    for name, content in files.items():
        (root / name).write_text(content)


def open_files() -> set[Path]:
    return {path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root reads everything, so it steps aside."""
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)


async def test_a_manifest_is_what_a_build_sees(tmp_path: Path):
    """Files with digests, folders even when empty, links with their targets, permission bits, sorted by path."""
    (tmp_path / "src").mkdir(mode=0o750)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "src", run="#!/bin/sh\n")
    (tmp_path / "src/run").chmod(0o4755)
    (tmp_path / "src-link").symlink_to("../outside")

    manifest = await scan(tmp_path, ALL)

    assert [(entry.path, entry.kind, entry.link) for entry in manifest.entries] == [
        ("empty", EntryKind.DIRECTORY, ""),
        ("src", EntryKind.DIRECTORY, ""),
        ("src-link", EntryKind.SYMLINK, "../outside"),
        ("src/run", EntryKind.FILE, ""),
    ]
    run = manifest.entries[-1]
    assert (run.mode, run.size, run.digest) == (0o4755, 10, hashlib.sha256(b"#!/bin/sh\n").hexdigest())
    assert manifest.entries[1].mode == 0o750
    assert manifest.size == 10


async def test_ignored_folders_are_not_visited(tmp_path: Path):
    """What is below an ignored folder is not even listed, unless an exception may bring some of it back."""
    for name in ("closed", "open"):
        (tmp_path / name / "deep").mkdir(parents=True)
        write(tmp_path / name / "deep", a="", b="")
    os.mkfifo(tmp_path / "closed/pipe")
    os.mkfifo(tmp_path / "open/pipe")

    manifest = await scan(tmp_path, compile_ignore("closed\nopen\n!open/deep/a"))

    assert [entry.path for entry in manifest.entries] == ["open", "open/deep", "open/deep/a"]
    assert manifest.skipped == ()


async def test_what_is_no_file_stays_home(tmp_path: Path):
    """Sockets and pipes are skipped, and said to be."""
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "sock"))

        manifest = await scan(tmp_path, ALL)

    assert (manifest.entries, manifest.skipped) == ((), ("pipe", "sock"))


@pytest.mark.parametrize(("name", "message"), [("nowhere", "there is no context folder"), ("file", "is a file")])
async def test_a_context_is_a_folder(tmp_path: Path, name: str, message: str):
    """Anything else is refused with what to write instead."""
    write(tmp_path, file="")

    with pytest.raises(UsageError, match=message) as caught:
        await scan(tmp_path / name, ALL)

    assert "folder" in caught.value.hint


@pytest.mark.parametrize("name", ["secret", "closed"])
async def test_what_cannot_be_read_is_named(name: str):
    """A file or folder without permission ends the scan with its path and the line for .dockerignore."""
    # Not below pytest's folder, which nobody but its owner may enter.
    with TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        write(root, secret="x")
        (root / "closed").mkdir()
        (root / name).chmod(0)
        # A first thread loads modules, which may lie where only root reads.
        await asyncio.to_thread(int)
        with unprivileged(), pytest.raises(UsageError) as caught:
            await scan(root, ALL)

    assert caught.value.message == f"cannot read {name} in the context: Permission denied"
    assert f"echo '{name}' >> .dockerignore" in caught.value.hint


async def test_odd_names_round_trip(tmp_path: Path):
    """Any name Linux allows comes out of the archive as it was, also through the agent."""
    deep = "/".join(["d" * 60] * 5)
    (tmp_path / "in" / deep).mkdir(parents=True)
    write(tmp_path / "in" / deep, f="deep")
    for number, name in enumerate(ODD_NAMES):
        (tmp_path / "in" / os.fsdecode(name)).write_text(str(number))
    (tmp_path / "in/link").symlink_to(os.fsdecode(b"to\xff" + b"x" * 120))

    manifest = await scan(tmp_path / "in", ALL)
    archive = await packed(manifest)
    (tmp_path / "out").mkdir()
    unpack(io.BytesIO(archive), tmp_path / "out")
    again = await scan(tmp_path / "out", ALL)

    assert manifest.entries == again.entries
    assert context_digest(manifest.entries) == context_digest(again.entries)
    assert {os.fsencode(path.name) for path in (tmp_path / "out").iterdir()} >= set(ODD_NAMES)
    with tarfile.open(fileobj=io.BytesIO(archive), encoding="utf-8", errors="surrogateescape") as tar:
        assert [member.name for member in tar] == [entry.path for entry in manifest.entries]
        assert {(member.uid, member.gid, member.uname, member.gname) for member in tar} == {(0, 0, "", "")}


async def test_times_are_kept_to_the_nanosecond(tmp_path: Path):
    """Also before 1970 and after 2038."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    times = {"old": -86400_000000001, "now": 1763930000_123456789, "late": 9000000000_000000001}
    for name, time in times.items():
        write(tmp_path / "in", **{name: ""})
        os.utime(tmp_path / "in" / name, ns=(time, time))

    unpack(io.BytesIO(await packed(await scan(tmp_path / "in", ALL))), tmp_path / "out")

    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == times


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("longer than before"),
        lambda path: path.write_text("s"),
        lambda path: os.utime(path, ns=(1, 1)),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
async def test_a_file_that_changed_ends_the_stream(tmp_path: Path, change):
    """What is sent is what was scanned, or nothing: the build id speaks for the scan."""
    write(tmp_path, file="before", other="")
    manifest = await scan(tmp_path, ALL)
    change(tmp_path / "file")

    with pytest.raises(UsageError, match="file changed while the context was read") as caught:
        await packed(manifest)

    assert caught.value.code == "context_changed"


async def test_a_file_that_changes_while_it_is_sent(tmp_path: Path):
    """Growth and loss in the middle of a file are noticed too."""
    for change in (4 * BUFFER, BUFFER + 1):
        path = tmp_path / "big"
        path.write_bytes(bytes(3 * BUFFER))
        manifest = await scan(tmp_path, ALL)
        async with aclosing(stream(manifest)) as chunks:
            await anext(chunks)
            os.truncate(path, change)

            with pytest.raises(UsageError, match="big changed"):
                _ = [chunk async for chunk in chunks]


async def test_a_scan_that_is_cancelled_ends(tmp_path: Path):
    """Its thread stops between two buffers instead of reading on."""
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(200 * 1024 * BUFFER)
    task = asyncio.create_task(scan(tmp_path, ALL))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    # Waits for the thread, which would otherwise read 200 GB.
    await asyncio.wait_for(asyncio.get_running_loop().shutdown_default_executor(), 30)


async def test_a_stream_can_be_left(tmp_path: Path):
    """A consumer that goes away, or is cancelled in the middle of a chunk, leaves nothing open."""
    (tmp_path / "big").write_bytes(bytes(5 * BUFFER))
    manifest = await scan(tmp_path, ALL)
    before = open_files()

    async def take() -> None:
        async with aclosing(stream(manifest)) as chunks:
            async for _ in chunks:
                pass

    task = asyncio.create_task(take())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with aclosing(stream(manifest)) as chunks:
        await anext(chunks)

    assert before == open_files()


def test_memory_does_not_grow_with_the_context(tmp_path: Path):
    """200 MB in one file and 5,000 small ones need no more memory than a few MiB."""
    (tmp_path / "many").mkdir()
    for number in range(5000):
        (tmp_path / "many" / str(number)).touch()
    with (tmp_path / "big").open("wb") as file:
        for _ in range(200):
            file.write(os.urandom(BUFFER))
    program = (
        "import asyncio, resource, sys\n"
        "from pathlib import Path\n"
        "from coordinator.context.tar import stream\n"
        "from coordinator.context.tree import scan\n"
        "from coordinator.domain.dockerignore import compile_ignore\n"
        "async def run(root):\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    manifest = await scan(root, compile_ignore(''))\n"
        "    size = 0\n"
        "    async for chunk in stream(manifest):\n"
        "        size += len(chunk)\n"
        "    print(size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
        "asyncio.run(run(Path(sys.argv[1])))\n"
    )

    said = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True).stdout

    size, grown = map(int, said.split())
    assert size > 200 * BUFFER
    assert grown < 24 * 1024
    shutil.rmtree(tmp_path / "many")
