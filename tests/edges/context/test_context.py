"""A folder becomes a manifest, and the manifest an offer of exactly what is in it."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import socket
import threading
from contextlib import closing
from pathlib import Path

import pytest

from coordinator.context.disk_tree import DiskTree
from coordinator.context.file_digests import BUFFER, FileDigests
from coordinator.context.offer import ContextOffer, LazyOffer, offer
from coordinator.context.scan_progress import MANY_ENTRIES, ScanProgress
from coordinator.context.selection import select
from coordinator.context.tree import ContextManifest, StoppedError, _Scan, scan
from coordinator.domain.dockerfile.context_sources import ContextUse, Wildcard
from coordinator.domain.dockerfile.dockerignore import compile_ignore
from coordinator.domain.inputs.build_id import EntryKind
from coordinator.errors import UsageError
from tests.edges.context.test_selection import source, use

ALL = compile_ignore("")
ODD_NAMES = (b"new\nline", b"caf\xc3\xa9", b"not\xff\xfeutf8", b"-rf", b" ", b"back\\slash", b"l" * 255, b"'\"$`")


def content(manifest: ContextManifest) -> dict[str, bytes]:
    """Every file as it is sent, by path."""
    offered = ContextOffer(manifest)
    files = [entry for entry in manifest.entries if entry.kind is EntryKind.FILE]
    return {entry.path: b"".join(offered.content(entry.digest)) for entry in files}


def write(root: Path, **files: str) -> None:
    for name, content in files.items():
        (root / name).write_text(content)


def open_files() -> set[Path]:
    return {path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}


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
    """Pipes are skipped, and said to be; a socket is an empty file, as in every image of BuildKit's."""
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "sock"))
        (tmp_path / "sock").chmod(0o700)

        manifest = await scan(tmp_path, ALL)

    (entry,) = manifest.entries
    assert (entry.path, entry.kind, entry.mode, entry.size) == ("sock", EntryKind.FILE, 0o700, 0)
    assert content(manifest) == {"sock": b""}
    assert manifest.skipped == ("pipe",)


async def test_names_of_one_file(tmp_path: Path):
    """Two taken names are a group, named after the first; what is not taken is no name, and a copy is none either."""
    write(tmp_path, b="same", copy="same", lone="lone")
    (tmp_path / "d").mkdir()
    for path in ("a", "d/c"):
        os.link(tmp_path / "b", tmp_path / path)
    os.link(tmp_path / "lone", tmp_path / "ignored")

    manifest = await scan(tmp_path, compile_ignore("ignored\na"))

    groups = {entry.path: entry.hard_link for entry in manifest.entries}
    assert groups == {"b": "b", "copy": "", "d": "", "d/c": "b", "lone": ""}
    assert len({entry.digest for entry in manifest.entries if entry.size}) == 2
    assert (await offer(manifest)).files == 4


async def test_times_and_names_that_few_systems_have(tmp_path: Path):
    """Before 1970, after 2554, and names in any bytes."""
    times = (-1, -(2**33) * 10**9 + 7, 2**33 * 10**9 + 7)
    for name, mtime in zip(ODD_NAMES, itertools.cycle(times)):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb"):  # noqa: PTH118, PTH123 - bytes
            pass
        os.utime(os.path.join(os.fsencode(tmp_path), name), ns=(0, mtime))  # noqa: PTH118 - bytes

    manifest = await scan(tmp_path, ALL)

    found = {entry.path.encode("utf-8", "surrogateescape"): entry.mtime_ns for entry in manifest.entries}
    assert set(found) == set(ODD_NAMES)
    kept = [os.stat(os.path.join(os.fsencode(tmp_path), name)).st_mtime_ns for name in ODD_NAMES]  # noqa: PTH116, PTH118
    assert [found[name] for name in ODD_NAMES] == kept


async def test_own_files_are_in_no_context(tmp_path: Path):
    """Neither read nor missed, also where the context is given through a link; a file with such a name elsewhere is."""
    (tmp_path / "home/state/deep").mkdir(parents=True)
    (tmp_path / "home/sub").mkdir()
    for path in ("state/deep/archloom.db", "meta.json", "meta.json.old", "sub/meta.json"):
        (tmp_path / "home" / path).write_text("x")
    (tmp_path / "link").symlink_to("home")
    own = [tmp_path / "home/state", tmp_path / "link/meta.json", tmp_path / "absent", Path("/elsewhere")]

    for root in ("home", "link"):
        manifest = await scan(tmp_path / root, ALL, own=own)

        assert [entry.path for entry in manifest.entries] == ["meta.json.old", "sub", "sub/meta.json"]


async def test_a_home_folder_is_said_to_be_taken(tmp_path: Path):
    """With the reason; not where it is not all taken, or where it is no home."""
    lines: list[str] = []

    async def said(root: Path, taken: ContextUse) -> list[str]:
        lines.clear()
        await scan(root, ALL, taken, home=tmp_path / "home", report=lines.append)
        await asyncio.sleep(0)
        return list(lines)

    (tmp_path / "home/project").mkdir(parents=True)
    everything = ContextUse(everything="Dockerfile:3: COPY . .")
    home = (tmp_path / "home").resolve()
    assert await said(home, everything) == [f"taking everything of {home}, because Dockerfile:3: COPY . ."]
    assert len(await said(tmp_path, everything)) == 1
    assert await said(home / "project", everything) == []
    assert await said(home, ContextUse()) == []


@pytest.mark.parametrize(("name", "message"), [("nowhere", "there is no context folder"), ("file", "is a file")])
async def test_a_context_is_a_folder(tmp_path: Path, name: str, message: str):
    """Anything else is refused with what to write instead."""
    write(tmp_path, file="")

    with pytest.raises(UsageError, match=message) as caught:
        await scan(tmp_path / name, ALL)

    assert "folder" in caught.value.hint


def test_a_long_scan_is_told(tmp_path: Path):
    """A line every 3 s, and once the reason why so much is taken."""
    lines: list[str] = []
    now = iter(range(0, 100, 2))
    progress = ScanProgress(tmp_path, "Dockerfile:3: COPY . .", None, lines.append, lambda: next(now))

    progress.matched(1000)
    progress.matched(2000)
    progress.found(1000)
    progress.found(2000)
    progress.found(MANY_ENTRIES)
    progress.found(MANY_ENTRIES + 1)
    progress.reading(10_000_000)
    for _ in range(4):
        progress.read(1_000_000)

    assert lines == [
        f"reading the context {tmp_path}: 2000 entries matched against wildcards",
        f"reading the context {tmp_path}: 2000 entries found",
        f"taking everything of {tmp_path}, because Dockerfile:3: COPY . .",
        f"reading the context {tmp_path}: {MANY_ENTRIES + 1} entries found",
        f"reading the context {tmp_path}: 2 of 10 MB",
        f"reading the context {tmp_path}: 4 of 10 MB",
    ]


async def test_an_offer_is_what_was_scanned(tmp_path: Path):
    """Counts, sizes and contents; what is not in the context cannot be asked for."""
    (tmp_path / "empty").mkdir()
    write(tmp_path, a="same", b="same", c="other!")

    offered = await offer(await scan(tmp_path, ALL))

    assert (offered.entries, offered.files, offered.size) == (4, 3, 14)
    same = hashlib.sha256(b"same").hexdigest()
    assert (offered.file_size(same), b"".join(offered.content(same))) == (4, b"same")
    root = offered.folder(offered.root)
    assert root is not None
    assert hashlib.sha256(root).hexdigest() == offered.root
    assert (offered.folder(same), offered.file_size(offered.root)) == (None, None)
    with pytest.raises(KeyError):
        next(offered.content(offered.root))


async def test_an_offer_is_created_once(tmp_path: Path):
    """All hosts share it."""
    write(tmp_path, a="a")
    lazy = LazyOffer(await scan(tmp_path, ALL))

    first, second = await asyncio.gather(lazy.get(), lazy.get())

    assert first is second
    assert first.files == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("longer than before"),
        lambda path: path.write_text("s"),
        lambda path: path.write_text("behind and more"),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
async def test_a_file_that_changed_is_not_sent(tmp_path: Path, change):
    """What is sent is what was scanned, or nothing: the build id speaks for the scan."""
    write(tmp_path, file="before", other="")
    manifest = await scan(tmp_path, ALL)
    change(tmp_path / "file")

    with pytest.raises(UsageError, match="file changed while the context was read") as caught:
        content(manifest)

    assert caught.value.code == "context_changed"


async def test_a_file_that_changed_and_hides_it_is_not_sent(tmp_path: Path):
    """Same size, same time, other content: what is sent has the digest that was offered."""
    write(tmp_path, file="before")
    manifest = await scan(tmp_path, ALL)
    write(tmp_path, file="behind")
    os.utime(tmp_path / "file", ns=(0, manifest.entries[0].mtime_ns))

    with pytest.raises(UsageError, match="file changed"):
        content(manifest)


async def test_a_file_that_is_cut_while_it_is_sent(tmp_path: Path):
    """Loss in the middle of a file is noticed."""
    path = tmp_path / "big"
    path.write_bytes(bytes(3 * BUFFER))
    manifest = await scan(tmp_path, ALL)
    with closing(ContextOffer(manifest).content(manifest.entries[0].digest)) as pieces:
        next(pieces)
        os.truncate(path, BUFFER + 1)

        with pytest.raises(UsageError, match="big changed"):
            _ = list(pieces)


async def test_a_file_that_grew_is_sent_as_it_was(tmp_path: Path):
    """The log of this build: its first bytes are what was scanned. Another time of change alone is no change."""
    write(tmp_path, log="one\n", touched="same")
    manifest = await scan(tmp_path, ALL)
    with (tmp_path / "log").open("a") as log:
        log.write("two\n")
    os.utime(tmp_path / "touched", ns=(1, 1))

    assert content(manifest) == {"log": b"one\n", "touched": b"same"}


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


def test_a_selection_can_be_ended(tmp_path: Path):
    """Between two entries that wildcards are matched against."""
    for number in range(600):
        (tmp_path / str(number)).touch()
    counts: list[int] = []

    def end(count: int) -> None:
        counts.append(count)
        if count > 256:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        select(DiskTree(tmp_path), use(source("**/x", Wildcard.INCLUDE)), ALL, end)
    assert counts == [256, 512]


async def test_a_file_can_be_left(tmp_path: Path):
    """A reader that goes away leaves nothing open."""
    (tmp_path / "big").write_bytes(bytes(5 * BUFFER))
    manifest = await scan(tmp_path, ALL)
    before = open_files()

    with closing(ContextOffer(manifest).content(manifest.entries[0].digest)) as pieces:
        next(pieces)

    assert before == open_files()


@pytest.mark.parametrize("refused", [False, True])
def test_a_cancelled_scan_ends_while_it_reads(tmp_path, refused):
    """It is no error of the file, also where another one could not be read before."""
    write(tmp_path, a="one")
    tree, stop = DiskTree(tmp_path, ()), threading.Event()
    if refused:
        tree.unreadable["b"] = "Permission denied"
    progress = ScanProgress(tmp_path, "", None, lambda _: None)
    reading = _Scan(tree, ALL, progress, stop)
    stop.set()

    with pytest.raises(StoppedError):
        reading._reading("a", (tmp_path / "a").lstat(), FileDigests())
    assert set(tree.unreadable) == ({"b"} if refused else set())
