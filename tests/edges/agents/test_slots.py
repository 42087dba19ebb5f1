"""A slot is held by one process at a time, and free as soon as that is gone."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agents.base import slots
from agents.base.errors import AgentError
from tests.services.commands import Child
from tests.services.missing import missing
from tests.services.paths import ROOT


@contextmanager
def taken(shared: Path, own: Path, count: int = 1, holder: str = "alice@beast 7f3a-arm64-1"):
    slot = slots.take(shared, own, "ID:1", count, holder)
    try:
        yield slot
    finally:
        os.close(slot.fd)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    shared, own = tmp_path / "lock", tmp_path / "own"
    shared.mkdir()
    own.mkdir()
    return shared, own


def test_a_held_slot_answers_with_its_holder(places: tuple[Path, Path]):
    """Whoever comes second learns at once who holds the slot, and since when."""
    with taken(*places), pytest.raises(AgentError) as busy, taken(*places):
        pass

    assert busy.value.code == "busy"
    assert busy.value.detail["holder"] == "alice@beast 7f3a-arm64-1"
    assert float(str(busy.value.detail["since"])) > 1.7e9


def test_slots_are_counted_from_zero(places: tuple[Path, Path]):
    """With `jobs: N` the slots 0 to N-1 are used, and one that is free again is taken again."""
    with taken(*places, 2) as first:
        with taken(*places, 2) as second:
            assert (first.number, second.number) == (0, 1)
            with pytest.raises(AgentError, match="slots 0 to 1"), taken(*places, 2):
                pass
        with taken(*places, 2, "x") as again:
            assert again.number == 1


def test_a_shorter_note_replaces_a_longer_one(places: tuple[Path, Path]):
    """The note of the last holder leaves nothing of the one before."""
    with taken(*places, holder="somebody with a very long name indeed"):
        pass
    with taken(*places, holder="al"), pytest.raises(AgentError) as busy, taken(*places):
        pass

    assert busy.value.detail["holder"] == "al"


def test_a_slot_held_without_a_note_is_busy_all_the_same(places: tuple[Path, Path]):
    """Who writes no note, or half of one, still holds the slot."""
    with taken(*places) as slot:
        os.ftruncate(slot.fd, 3)
        with pytest.raises(AgentError) as busy, taken(*places):
            pass

    assert (busy.value.code, busy.value.detail["holder"]) == ("busy", "")


def test_everybody_may_use_the_meeting_place(places: tuple[Path, Path]):
    """The directory is like /tmp, its files are writable to all, whatever the umask is; and the umask stays."""
    before = os.umask(0o077)
    try:
        with taken(*places):
            pass
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)

    place = places[0] / "archloom-ID-1"
    assert stat.S_IMODE(place.stat().st_mode) == 0o1777
    assert stat.S_IMODE((place / "slot-0").stat().st_mode) == 0o666


@pytest.mark.parametrize("trap", ["symlink", "file", "absent"])
def test_without_a_usable_meeting_place_the_own_folder_serves(places: tuple[Path, Path], trap: str):
    """What another user planted is not followed: the lock is then this user's alone."""
    shared, own = places
    match trap:
        case "symlink":
            (shared / "archloom-ID-1").symlink_to(own)
        case "file":
            (shared / "archloom-ID-1").touch()
        case _:
            shared.rmdir()

    with taken(shared, own):
        assert (own / "archloom-ID-1" / "slot-0").is_file()


def _as_folder(slot: Path, _own: Path) -> None:
    (slot / "inner").mkdir(parents=True)


def _as_other_name(slot: Path, own: Path) -> None:
    (own / "victim").write_text("content")
    slot.hardlink_to(own / "victim")


_TRAPS: dict[str, Callable[[Path, Path], object]] = {
    "link": lambda slot, own: slot.symlink_to(own / "victim"),
    "pipe": lambda slot, _: os.mkfifo(slot),
    "folder": _as_folder,
    "socket": lambda slot, _: os.mknod(slot, stat.S_IFSOCK | 0o666),
    "another name of a file": _as_other_name,
}


@pytest.mark.parametrize("trap", _TRAPS)
def test_a_spoilt_slot_is_neither_followed_nor_waited_for(places: tuple[Path, Path], trap: str):
    """Another user can put anything in its place. The lock is then this user's alone, and the probe names the trap."""
    shared, own = places
    slot = shared / "archloom-ID-1" / "slot-0"
    slot.parent.mkdir()
    assert slots.spoilt(shared, "ID:1") == ""
    _TRAPS[trap](slot, own)

    with taken(*places):
        assert (own / "archloom-ID-1" / "slot-0").is_file()
        with pytest.raises(AgentError, match="slot 0 is held"), taken(*places):
            pass
    assert slots.spoilt(shared, "ID:1") == str(slot)
    assert not (own / "victim").exists() or (own / "victim").read_text() == "content"


@pytest.mark.parametrize("trap", [*_TRAPS, "the folder"])
def test_a_spoilt_slot_of_ones_own_is_made_anew(places: tuple[Path, Path], trap: str):
    """A power cut or a person may have left it so."""
    shared, own = places
    shared.rmdir()
    slot = own / "archloom-ID-1" / "slot-0"
    if trap == "the folder":
        slot.parent.touch()
    else:
        slot.parent.mkdir()
        _TRAPS[trap](slot, own)

    with taken(*places):
        assert slot.is_file()


@pytest.mark.parametrize(
    "note", [b"[" * 4000, b'{"holder": "al", "since": Infinity}', b'{"holder": "\\ud800\\n", "since": 1}']
)
def test_a_note_of_another_user_does_no_harm(places: tuple[Path, Path], note: bytes):
    """Whoever holds a slot writes what he likes into its file."""
    with taken(*places) as slot:
        os.pwrite(slot.fd, note + b"\n", 0)
        with pytest.raises(AgentError) as busy, taken(*places):
            pass

    assert busy.value.detail["holder"] in {"", "al", "??"}
    assert busy.value.detail["since"] in {0.0, 1.0}


def test_a_purge_leaves_the_lock_files_of_other_homes(places: tuple[Path, Path], tmp_path: Path):
    """The last note says whose they are; a held one stays whoever took it, and none is held by two because of that."""
    shared, own = places
    other = tmp_path / "other"
    folder = shared / "archloom-ID-1"
    with taken(shared, own), taken(shared, other, 2):
        assert slots.holder_of(shared, "ID:1") == str(folder / "slot-0")
        assert slots.drop(shared, "ID:1", [own]) == []
        assert sorted(path.name for path in folder.iterdir()) == ["slot-0", "slot-1"]
    assert slots.holder_of(shared, "ID:1") == ""

    assert slots.drop(shared, "ID:1", [own]) == []
    assert [path.name for path in folder.iterdir()] == ["slot-1"]
    assert slots.drop(shared, "ID:1", [own, other]) == [str(folder)]
    assert not folder.exists()


PURGE = """
import sys
from pathlib import Path
from agents.base import slots

print("ready", flush=True)
while True:
    slots.drop(Path(sys.argv[1]), "ID:1", [Path(sys.argv[2])])
"""


def test_two_never_hold_one_slot_while_purges_delete_its_file(places: tuple[Path, Path]):
    """Who has opened the file just before it is deleted takes the new one."""
    inside, most = [0], [0]

    def build() -> None:
        for _ in range(1000):
            with suppress(AgentError), taken(*places):
                inside[0] += 1
                os.sched_yield()
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    purging = Child([sys.executable, "-c", PURGE, *map(str, places)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with purging, ThreadPoolExecutor(4) as pool:
        assert purging.line() == "ready\n"
        for work in [pool.submit(build) for _ in range(4)]:
            work.result()
        purging.kill()
    assert most == [1]


AS_USER = """
import os, sys
from pathlib import Path
from agents.base import slots
from agents.base.errors import AgentError

shared, name, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
os.setgroups([])
os.setgid(number)
os.setuid(number)
own = shared / f"own-{name}"
own.mkdir(exist_ok=True)
try:
    slot = slots.take(shared, own, "ID", 2, name)
except AgentError as error:
    print(error.code, error.detail["holder"])
else:
    print(slot.number, flush=True)
    sys.stdin.read()
"""


@contextmanager
def as_user(shared: Path, name: str, number: int):
    """A process that becomes another user and takes a slot; it holds it until its stdin ends."""
    process = Child(
        [sys.executable, "-c", AS_USER, str(shared), name, str(number)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process.line().strip()


def test_login_users_of_one_host_meet():
    """A slot that one user holds is busy for another, whoever made the directory and the files."""
    if os.geteuid() != 0:
        missing("root, to become other users")
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o1777)
        shared = Path(root)
        with (
            as_user(shared, "ann", 12001) as first,
            as_user(shared, "bob", 12002) as second,
            as_user(shared, "eve", 12003) as third,
        ):
            assert (first, second, third) == ("0", "1", "busy ann")
        with as_user(shared, "eve", 12003) as free:
            assert free == "0"
            # The file is Ann's, and now closed to all others.
            (shared / "archloom-ID" / "slot-0").chmod(0o600)
            with as_user(shared, "bob", 12002) as own:
                assert own == "0"
            assert (shared / "own-bob" / "archloom-ID" / "slot-0").stat().st_uid == 12002
