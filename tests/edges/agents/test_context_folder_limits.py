"""What context folders take of a disk, what disks do to names and times, and transfers that are killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from agents.base.errors import AgentError
from agents.context.cache import Objects
from agents.context.cache_gc import Budget, trim
from agents.context.folder_gc import drop_unused
from agents.context.known_states import Facts
from agents.context.patch import Patch
from agents.context.transfer import transfer
from tests.edges.agents.folders_bed import Host, Script, end, file, pair
from tests.edges.agents.transfer_bed import MTIME, Scripted, arrive, seen
from tests.services.commands import run_limited
from tests.services.missing import program


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def die_at(call: str, number: int, work: Callable[[], object]) -> bool:
    """Do the work in a child that is killed at its n-th call of this function of `os`; whether it got so far."""

    def run() -> None:
        calls, real = iter(range(1, number)), getattr(os, call)

        def dying(*args: object, **kwargs: object) -> object:
            if next(calls, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        setattr(os, call, dying)
        work()

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    child.join(60)
    assert child.exitcode in {0, -signal.SIGKILL}
    return child.exitcode != 0


@pytest.mark.parametrize("call", ["rename", "chmod", "utime", "fchmod", "unlink"])
def test_a_transfer_that_is_killed_leaves_no_wrong_folder(host: Host, call: str):
    """Wherever it dies the next job gets what it was offered, and an engine is never shown two states of one name."""
    shown: dict[tuple[str, ...], bytes] = {}

    def first(there: Scripted) -> list[list[object]]:
        folder = there.below("d", there.file("f", b"AAAA"), there.file("g", b"A"))
        return [folder, there.file("same"), there.file("old")]

    def second(there: Scripted) -> list[list[object]]:
        folder = there.below("d", there.file("f", b"BBBB"), there.file("g", b"BB", 0o600, 7))
        return [folder, there.file("same", mtime=9)]

    def build(script: Script, count: int) -> None:
        folder = host.build(script, count)
        there = Scripted()
        expected = host.state / f"expected-{uuid4()}"
        arrive(there, there.folder(*script(there)), count, host.state / "elsewhere", expected)
        assert seen(folder) == seen(expected)
        for name, (kind, mode, mtime, content) in seen(folder).items():
            if kind == "file":
                key = (folder.name, name, str(mode), str(mtime), str(len(content)))
                assert shown.setdefault(key, content) == content

    build(first, 5)
    number = 1
    while die_at(call, number, lambda: host.build(second, 4)):
        host.skip()
        build(second, 4)
        build(first, 5)
        number += 1
    assert number > 1


def store_of(host: Host) -> Path:
    return host.state / "objects"


def test_folders_that_no_job_has_go_when_unused(host: Host):
    """One that a job has stays, whatever its age."""
    there, job = Scripted(), host.job()
    held = host.send(job, there, there.folder(there.file("f")), 1)
    free = host.build(file(), key="f" * 32)

    trim(store_of(host), 1 << 60, Budget(1 << 60, unused=-1.0))

    assert (held.is_dir(), free.parent.parent.exists()) == (True, False)


def nested(levels: int, entry: Callable[[Scripted], list[object]]) -> Script:
    """Folders in one another, 250 bytes of path each, and this entry in the last one."""

    def script(there: Scripted) -> list[list[object]]:
        inner = entry(there)
        for _ in range(levels):
            inner = there.below("d" * 249, inner)
        return [inner]

    return script


@pytest.mark.parametrize(
    ("levels", "entry"),
    [
        (20, lambda there: there.file("f")),
        (15, lambda there: there.file("f" * 255)),
        (15, lambda _: ["link", "l" * 255, MTIME, "x"]),
        (15, lambda there: there.below("d" * 255)),
    ],
)
def test_a_path_that_is_too_long_to_be_removed_is_refused(host: Host, levels: int, entry):
    """Folders are written by descriptor, so an offer may nest them deeper than any system call takes a path."""
    there, job = Scripted(), host.job()
    root = there.folder(*nested(levels, entry)(there))
    with pytest.raises(AgentError, match="path") as refused:
        host.send(job, there, root, levels + 1)
    assert refused.value.code == "bad_request"
    end(job)

    host.build(nested(14, lambda there: there.file("f")), 15)
    assert host.build(file()).exists()
    drop_unused(host.state, time.time() + 60)
    assert not list((host.state / "contexts").glob("*/*"))


def test_a_folder_is_removed_without_the_lock_of_all(host: Host):
    """It is put aside first, so a removal that takes long or is killed is in nobody's way; the next one ends it."""
    host.build(file())

    assert die_at("unlink", 1, lambda: trim(store_of(host), 1 << 60, Budget(1 << 60, unused=-1.0)))

    contexts = host.state / "contexts"
    assert [path.name[:6] for path in contexts.iterdir() if path.is_dir()] == [".gone-"]
    new = host.build(file())
    trim(store_of(host), 1 << 60, Budget(1 << 60))
    assert [path.name for path in contexts.iterdir() if path.is_dir()] == [new.parent.parent.name]


def test_folders_make_way_for_the_budget(host: Host):
    """The least recently used goes first, with what only it has: copies of equal files."""
    old = host.build(pair("", "", b"A" * 100_000), 2)
    new = host.build(file(b"B" * 100_000), key="f" * 32)
    os.utime(old.parent / "lease.json", (time.time() - 1000,) * 2)
    inodes = {path.stat().st_ino: path.stat().st_blocks * 512 for path in host.state.rglob("*") if path.is_file()}
    everything = sum(inodes.values())

    trim(store_of(host), 1 << 60, Budget(everything))
    assert (old.exists(), new.exists()) == (True, True)
    trim(store_of(host), 1 << 60, Budget(everything - 200_000))
    assert (old.exists(), new.exists()) == (False, True)
    trim(store_of(host), 1 << 60, Budget(0))
    assert not new.exists()
    assert not list(store_of(host).glob("*/*/*"))


@pytest.fixture
def rounding(tmp_path: Path) -> Iterator[Path]:
    """A disk that keeps whole seconds of times, as small ones of old do."""
    image, mounted = tmp_path / "disk", tmp_path / "mounted"
    with image.open("wb") as disk:
        disk.truncate(64 << 20)
    mounted.mkdir()
    make = [program("mkfs.ext4"), "-q", "-I", "128", str(image)]
    run_limited(make, check=True, capture_output=True, timeout=60)
    run_limited(["mount", "-o", "loop", str(image), str(mounted)], check=True, capture_output=True, timeout=60)
    try:
        yield mounted
    finally:
        run_limited(["umount", str(mounted)], check=True, timeout=60)


@pytest.mark.parametrize("mtimes", [(MTIME, MTIME + 1000), (1 << 62, 1 << 63)])
def test_times_that_a_disk_rounds_fool_nobody(rounding: Path, mtimes: tuple[int, int]):
    """What an engine compares is what the disk keeps; beyond the year 2038 that may be one time for all."""
    host = Host(rounding)
    first = host.build(file(b"AAAA", mtime=mtimes[0]))
    assert host.build(file(b"BBBB", mtime=mtimes[1])).name != first.name


@pytest.mark.parametrize("names", [("Makefile", "makefile"), ("STRASSE", "stra\u00dfe"), ("\u00e4", "A\u0308")])
def test_names_that_differ_in_case_share_a_disk_only_where_it_keeps_them_apart(tmp_path: Path, names: tuple[str, str]):
    """Both are named before a file is asked for; where the disk keeps them apart both arrive."""
    there = Scripted()
    root = there.folder(there.below("d", *(there.file(name, name.encode()) for name in names)))

    def arrive_on(disk: str, *, folds: bool) -> Path:
        there.offer(root, 3)
        objects, tree = Objects(tmp_path / f"{disk}-state"), tmp_path / disk
        tree.mkdir()
        try:
            transfer(there, there.say, objects, tree, patch=Patch(Facts(coarse=False), folds=folds))
        finally:
            objects.close()
        return tree

    with pytest.raises(AgentError) as refused:
        arrive_on("folding", folds=True)
    assert refused.value.code == "case"
    assert all(f"'d/{name}'" in refused.value.message or not name.isascii() for name in names)
    assert {asked["want"] for asked in there.asked} == {"folders"}
    assert len(list((arrive_on("ordinary", folds=False) / "d").iterdir())) == 2
