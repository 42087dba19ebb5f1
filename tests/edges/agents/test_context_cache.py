"""What a host keeps of contexts: taken by later jobs as it was, never trusted after a power cut, and bounded."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from agents.base import state
from agents.base.errors import AgentError
from agents.context.cache import Objects
from agents.context.cache_gc import Budget, budget, make_room, trim
from agents.context.tree_objects import File
from tests.edges.agents.transfer_bed import MTIME, Scripted, arrive, seen, sha
from tests.services.missing import missing

ENDLESS = Budget(1 << 60)


def take(tmp_path: Path, job: str, *entries: list[object], there: Scripted) -> tuple[Path, list[str]]:
    """The job's context, and what was asked for."""
    count = sum(1 for _ in entries)
    before = len(there.asked)
    arrive(there, there.folder(*entries), count, tmp_path / "state", tmp_path / job)
    return tmp_path / job, [digest for asked in there.asked[before:] for digest in asked["digests"]]


def stored(tmp_path: Path) -> dict[str, Path]:
    """The files of the store by digest."""
    paths = (path for path in (tmp_path / "state/objects").glob("*-*/*/*") if path.is_file())
    return {path.parent.name + path.name: path for path in paths}


def test_a_second_job_asks_for_nothing(tmp_path: Path):
    """The same context is made of what the first job left, file by file the very same, and no question is asked."""
    there = Scripted()
    entries = [there.file("a", b"a"), there.file("b", b"b", 0o755), there.file("c", b"", 0o600, 7)]

    first, asked = take(tmp_path, "1", *entries, there=there)
    second, again = take(tmp_path, "2", *entries, there=there)

    assert (len(asked), again) == (4, [])
    assert seen(first) == seen(second)
    assert all((first / name).samefile(second / name) for name in "abc")


def test_the_context_is_searched_for_a_twin_only_where_the_store_has_the_file(tmp_path: Path):
    """The search may read all folders that were left out, and a file that is sent needs none."""
    there, searched = Scripted(), []
    folder, _ = take(tmp_path, "1", there.file("a", b"a"), there=there)
    known = File(b"b", 0o644, MTIME, 1, sha(b"a"))
    objects, parent = Objects(tmp_path / "state"), os.open(folder, os.O_RDONLY)

    def alone() -> bool:
        searched.append(known.name)
        return True

    try:
        assert not objects.take(known._replace(digest=sha(b"new")), parent, alone)
        assert not searched
        assert objects.take(known, parent, alone)
    finally:
        os.close(parent)
        objects.close()
    assert searched == [b"b"]
    assert not (folder / "a").samefile(folder / "b")


def test_only_what_is_new_is_asked_for(tmp_path: Path):
    """A changed file costs itself and its folder."""
    there = Scripted()
    take(tmp_path, "1", there.file("a", b"a"), there.file("b", b"b"), there=there)
    entries = [there.file("a", b"a"), there.file("b", b"new")]

    _, asked = take(tmp_path, "2", *entries, there=there)

    assert asked == [there.folder(*entries), sha(b"new")]


def test_files_of_one_context_are_files_of_their_own(tmp_path: Path):
    """Equal files are no hard links of each other: in an image they would be one file under two names."""
    there = Scripted()
    entries = [there.file(name, b"same", mode) for name, mode in (("a", 0o644), ("b", 0o644), ("c", 0o600))]

    for job in ("new", "known"):
        tree, _ = take(tmp_path, job, *entries, there=there)
        assert len({path.stat().st_ino for path in tree.iterdir()}) == 3
        assert [found[1] for found in seen(tree).values()] == [0o644, 0o644, 0o600]
    assert there.asked[-1]["digests"] == [sha(b"same")]


@pytest.mark.parametrize("held", [True, False])
def test_another_mode_and_time_is_no_other_content(tmp_path: Path, *, held: bool):
    """A fresh clone has new times: nothing is sent, nobody's files change, and what nobody else has is not copied."""
    there = Scripted()
    first, _ = take(tmp_path, "1", there.file("a", b"a"), there=there)
    before = seen(first)
    inode = (first / "a").stat().st_ino
    if not held:
        (first / "a").unlink()

    second, asked = take(tmp_path, "2", entry := there.file("a", b"a", 0o755, 7), there=there)
    third, _ = take(tmp_path, "3", entry, there=there)

    assert asked == [there.folder(entry)]
    assert seen(second) == seen(third) == {"a": ("file", 0o755, 7, b"a")}
    assert (second / "a").samefile(third / "a")
    assert ((second / "a").stat().st_ino == inode) is not held
    assert not held or seen(first) == before


def test_what_its_owner_may_not_read_is_not_shared(tmp_path: Path):
    """It could not be read through after a restart. It is copied from what was sent under another mode."""
    there = Scripted()
    take(tmp_path, "1", there.file("a", b"a", 0o000), there=there)
    assert stored(tmp_path) == {}
    take(tmp_path, "2", there.file("a", b"a", 0o644), there=there)
    tree, asked = take(tmp_path, "3", entry := there.file("a", b"a", 0o000), there=there)

    assert sha(b"a") not in asked
    assert seen(tree) == {"a": ("file", 0, MTIME, b"a")}
    assert not (tree / "a").samefile(stored(tmp_path)[sha(b"a")])
    assert entry


def restart(tmp_path: Path) -> None:
    """As after a restart of the machine: what is there is of another boot."""
    objects = tmp_path / "state/objects"
    (objects / state.boot_id()).rename(objects / str(uuid4()))


@pytest.mark.parametrize("damage", [b"", b"x" * 5000 + b"\0" * 5000, b"x" * 9999])
def test_what_a_power_cut_damaged_is_not_taken(tmp_path: Path, damage: bytes):
    """Files of an earlier boot are read through before they are trusted; a whole one is not sent again."""
    there = Scripted()
    entries = [there.file("hurt", b"x" * 10000), there.file("whole", b"y" * 10000)]
    take(tmp_path, "1", *entries, there=there)
    restart(tmp_path)
    stored(tmp_path)[sha(b"x" * 10000)].write_bytes(damage)

    tree, asked = take(tmp_path, "2", *entries, there=there)

    assert asked == [sha(b"x" * 10000)]
    assert [found[3] for found in seen(tree).values()] == [b"x" * 10000, b"y" * 10000]
    restart(tmp_path)
    assert take(tmp_path, "3", *entries, there=there)[1] == []
    assert {path.parents[1].name for path in stored(tmp_path).values()} == {state.boot_id()}


def test_a_damaged_folder_object_is_asked_for_again(tmp_path: Path):
    """Folder objects are read through always."""
    there = Scripted()
    entry = there.file("a")
    take(tmp_path, "1", entry, there=there)
    root = there.folder(entry)
    Path(tmp_path, "state/objects/folders", root[:2], root[2:]).write_bytes(b'{"entries": []}')

    assert take(tmp_path, "2", entry, there=there)[1] == [root]


def test_a_cut_file_of_this_boot_is_not_taken(tmp_path: Path):
    """Somebody's hand in the store, seen by the size."""
    there = Scripted()
    tree, _ = take(tmp_path, "1", entry := there.file("a", b"12345"), there=there)
    os.truncate(tree / "a", 3)

    tree, asked = take(tmp_path, "2", entry, there=there)

    assert asked == [sha(b"12345")]
    assert (tree / "a").read_bytes() == b"12345"


def test_a_disk_without_hard_links_gets_copies(tmp_path: Path):
    """A store on another file system stands for one that has none: everything works, with files of their own."""
    elsewhere = Path("/dev/shm", f"archloom-{uuid4().hex}")
    if not elsewhere.parent.is_dir() or elsewhere.parent.stat().st_dev == tmp_path.stat().st_dev:
        missing("a second file system at /dev/shm")
    elsewhere.mkdir()
    try:
        (tmp_path / "state").symlink_to(elsewhere)
        there = Scripted()
        entries = [there.file("a", b"a"), there.file("b", b"b", 0o755, 7)]
        first, _ = take(tmp_path, "1", *entries, there=there)
        second, asked = take(tmp_path, "2", *entries, there=there)
        assert (asked, seen(first)) == ([], seen(second))
        assert not (first / "a").samefile(second / "a")
    finally:
        shutil.rmtree(elsewhere)


def test_transfers_at_once_do_not_disturb_each_other(tmp_path: Path):
    """Coordinators that send the same files with times of their own get each what it offered, while objects go."""
    contents = [bytes([number]) * 100 for number in range(40)]
    ended = threading.Event()

    def run(number: int) -> Path:
        there = Scripted()
        for turn in range(5):
            entries = [there.file(f"f{at}", data, 0o644, number) for at, data in enumerate(contents)]
            tree, _ = take(tmp_path, f"{number}-{turn}", *entries, there=there)
            assert {found[2] for found in seen(tree).values()} == {number}
        return tree

    def clean() -> None:
        while not ended.is_set():
            if (tmp_path / "state/objects").is_dir():
                trim(tmp_path / "state/objects", 1, Budget(20 * 4096))

    with ThreadPoolExecutor(5) as pool:
        cleaning = pool.submit(clean)
        try:
            trees = list(pool.map(run, range(1, 5)))
        finally:
            ended.set()
        cleaning.result(60)

    for number, tree in enumerate(trees, 1):
        found = seen(tree)
        assert [found[f"f{at}"] for at in range(40)] == [("file", 0o644, number, data) for data in contents]


def until_later(tmp_path: Path) -> None:
    """Change times advance with the kernel's ticks."""
    clock = tmp_path / "clock"
    clock.touch()
    before = clock.stat().st_ctime_ns
    while clock.stat().st_ctime_ns == before:
        clock.touch()


def test_what_was_used_longest_ago_goes_first(tmp_path: Path):
    """The store stays within its budget; jobs keep what they have."""
    there = Scripted()
    for job, name in enumerate(("old", "mid", "new", "old")):
        tree, _ = take(tmp_path, str(job), there.file(name, name.encode() * 1000), there=there)
        shutil.rmtree(tree)
        until_later(tmp_path)

    # Each file has a folder object, and each takes a block.
    trim(tmp_path / "state/objects", 0, Budget(4 * 4096))

    assert set(stored(tmp_path)) == {sha(b"old" * 1000), sha(b"new" * 1000)}
    trim(tmp_path / "state/objects", 1 << 40, Budget(0))
    assert stored(tmp_path) == {}


def test_what_a_folder_has_is_not_evicted(tmp_path: Path):
    """That would free nothing, and the next job would have to be sent it again."""
    there = Scripted()
    take(tmp_path, "1", there.file("a", b"a" * 1000), there=there)
    trim(tmp_path / "state/objects", 1 << 40, Budget(0, unused=-1.0))
    assert set(stored(tmp_path)) == {sha(b"a" * 1000)}


def test_a_sparse_file_takes_what_it_holds(tmp_path: Path):
    """Zeros become holes, in what arrives and in copies of it, and count for nothing."""
    there = Scripted()
    content = bytes(50 << 20) + b"end"
    entries = [there.file("a", content), there.file("b", content)]
    tree, _ = take(tmp_path, "1", *entries, there=there)

    for name in "ab":
        assert (tree / name).read_bytes() == content
        assert (tree / name).stat().st_blocks * 512 < 1 << 20
    trim(tmp_path / "state/objects", 1 << 40, Budget(2 << 20))
    shutil.rmtree(tree)
    trim(tmp_path / "state/objects", 1 << 40, Budget(2 << 20))
    assert set(stored(tmp_path)) == {sha(content)}


def test_what_nobody_uses_goes_after_a_while(tmp_path: Path):
    """Also objects of earlier boots, and what a killed transfer left; the folders they lay in go with them."""
    there = Scripted()
    take(tmp_path, "1", there.file("a"), there=there)
    restart(tmp_path)
    take(tmp_path, "2", there.file("b", b"b"), there=there)
    for name in "12":
        shutil.rmtree(tmp_path / name)
    objects = tmp_path / "state/objects"
    (objects / "folders/00").mkdir(exist_ok=True)
    (objects / "folders/00/.left").touch()

    trim(objects, 0, ENDLESS)
    assert len(stored(tmp_path)) == 2
    (objects / "ledger.json").unlink()
    trim(objects, 0, Budget(1 << 60, unused=-1.0))
    assert (objects / "folders/00/.left").exists()
    (objects / "ledger.json").unlink()
    trim(objects, 0, Budget(1 << 60, under_way=-1.0))

    assert not [path for path in objects.rglob("*") if path.is_file() and path.parent != objects]
    assert {path.name for path in objects.iterdir() if path.is_dir()} <= {"folders", state.boot_id()}


def test_the_store_is_not_counted_at_every_transfer(tmp_path: Path):
    """What came is added to the last count, until that is a day old or beyond the budget."""
    objects = tmp_path / "objects"
    objects.mkdir()
    trim(objects, 0, Budget(1000))
    stray = objects / "folders/00/aa"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"x" * 2000)

    trim(objects, 900, Budget(1000))
    assert stray.exists()
    trim(objects, 101, Budget(1000))
    assert not stray.exists()

    stray.write_bytes(b"x" * 2000)
    (objects / "ledger.json").write_text(json.dumps({"bytes": 0, "counted": time.time() - 90000}))
    trim(objects, 0, Budget(1000))
    assert not stray.exists()
    (objects / "ledger.json").write_text('{"bytes":')
    trim(objects, 0, Budget(1000))


def test_room_is_made_before_a_transfer(tmp_path: Path):
    """Nothing goes while there is room, or where nothing would help; then the error says what is free."""
    there = Scripted()
    take(tmp_path, "1", there.file("a"), there=there)
    objects = tmp_path / "state/objects"

    make_room(objects, 1)
    with pytest.raises(AgentError, match=r"too little space below .*: \d+ MiB free, \d+ MiB needed") as full:
        make_room(objects, 1 << 60)

    assert (full.value.code, len(stored(tmp_path))) == ("disk", 1)
    assert full.value.detail["free"] > 0


def test_the_budget_follows_the_disk(tmp_path: Path):
    """A tenth of a small disk, and never more than 5 GB."""
    status = os.statvfs(tmp_path)
    assert budget(tmp_path).bytes == min(5_000_000_000, int(status.f_blocks * status.f_frsize * 0.1))


def test_an_object_is_the_users_alone(tmp_path: Path):
    """Nobody else may look into the store."""
    folder = state.open_state({"XDG_STATE_HOME": str(tmp_path)})
    Objects(folder).close()
    assert folder.stat().st_mode & 0o777 == 0o700
