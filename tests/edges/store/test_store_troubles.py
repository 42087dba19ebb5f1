"""What keeps a store from being used, by real means: said in a line, with what to do, and survived by a build."""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from coordinator.cli.main import run
from coordinator.domain.run.events import Notice
from coordinator.domain.run.states import AttemptEvent, AttemptState
from coordinator.environment import Environment
from coordinator.errors import ArchloomError, LostError
from coordinator.state.open_store import open_history
from coordinator.store.database import VERSION
from tests.edges.store.store_bed import assigned, create, end, old_store
from tests.edges.store.trouble_bed import (
    files_end_at,
    fill,
    filled,
    locked,
    mounted,
    needs_root,
    no_database,
    opened,
    read_only,
)
from tests.services.commands import run_limited
from tests.services.missing import program
from tests.services.paths import ROOT


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the store that commands find, in a folder of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "archloom" / "archloom.db"


@contextmanager
def full(path: Path) -> Iterator[None]:
    with mounted(path.parent, "-t", "tmpfs", "-o", "size=8m", "tmpfs"):
        filled(path)
        fill(path.parent)
        yield


@contextmanager
def cut_short(path: Path) -> Iterator[None]:
    filled(path)
    os.truncate(path, path.stat().st_size // 2)
    yield


@contextmanager
def spoilt(path: Path) -> Iterator[None]:
    """Beyond what is read of it to open it."""
    filled(path)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 81920)
        file.write(os.urandom(81920))
    yield


@contextmanager
def of_somebody_else(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE runs (distance REAL)")
    yield


@contextmanager
def of_the_same_version(path: Path) -> Iterator[None]:
    """Somebody else's too; other programs count the versions of their stores as well."""
    with of_somebody_else(path), closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {VERSION}")
    yield


@contextmanager
def no_folder(path: Path) -> Iterator[None]:
    path.parent.parent.mkdir()
    path.parent.write_text("a file")
    yield


@contextmanager
def a_folder(path: Path) -> Iterator[None]:
    path.mkdir(parents=True)
    yield


TROUBLES = {
    "read_only": (read_only, 2, "Read-only file system", "give another state folder with XDG_STATE_HOME"),
    "full": (full, 5, "too little space below", "make room: df -h "),
    "no_database": (no_database, 2, "is not a readable store: file is not a database", "put it away"),
    "cut_short": (cut_short, 2, "is not a readable store: database disk image is malformed", "put it away"),
    "spoilt": (spoilt, 2, "is not a readable store: database disk image is malformed", "put it away"),
    "of_somebody_else": (of_somebody_else, 2, "is not a readable store: table runs has no column", "put it away"),
    "of_the_same_version": (of_the_same_version, 2, "is not a readable store: table runs has no column", "put it away"),
    "no_folder": (no_folder, 2, "cannot use the state folder", "give another state folder with XDG_STATE_HOME"),
    "a_folder": (a_folder, 2, "unable to open database file", "give another state folder with XDG_STATE_HOME"),
}
BY_ROOT = ("read_only", "full")
EACH = [pytest.param(*rest, id=name, marks=needs_root if name in BY_ROOT else ()) for name, rest in TROUBLES.items()]


@pytest.mark.parametrize(("trouble", "code", "message", "hint"), EACH)
def test_a_command_that_needs_history_says_what_is_wrong(path, capsys, trouble, code, message, hint):
    """One line that says what and which, one that says what to do, and the exit code; nothing on stdout."""
    with trouble(path):
        assert run(["runs"]) == code

    said = capsys.readouterr()
    error, advice = said.err.splitlines()
    assert said.out == ""
    assert error.startswith("error: ")
    assert message in error
    assert str(path.parent) in error
    assert advice.startswith(f"hint: {hint}")


@pytest.mark.parametrize(("trouble", "code", "message", "hint"), EACH)
def test_a_build_goes_on_without_history(path, trouble, code, message, hint):
    """After one notice that says why and what to do, it has a store that works, and leaves the file as it is."""
    notices: list[Notice] = []
    with trouble(path):
        before = path.read_bytes() if path.is_file() else None
        with open_history(read_environment(path), notices.append) as store:
            attempt = assigned(store, create(store, "mine").jobs[0].id)
            assert store.move_attempt(attempt.id, AttemptEvent.SEND) is AttemptState.SENDING
            end(store, "mine")
            assert store.has_ended("mine")
        after = path.read_bytes() if path.is_file() else None

    (notice,) = notices
    assert notice.text.startswith("no history is kept from now on, and this run cannot be resumed: ")
    assert message in notice.text
    assert hint in notice.text
    assert after == before


@pytest.mark.parametrize("version", range(VERSION))
def test_a_disk_that_is_full_from_the_first_byte_on_costs_history_and_nothing_else(path, version):
    """Wherever it ends: before there is a store, in the middle of making one or of updating an older one, or after."""
    told, sizes = 0, range(0, 200_000, 2000)
    for size in sizes:
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir(parents=True)
        if version:
            old_store(path, version)
        notices: list[Notice] = []
        with files_end_at(size), open_history(read_environment(path), notices.append) as store:
            attempt = assigned(store, create(store, "mine").jobs[0].id)
            assert store.move_attempt(attempt.id, AttemptEvent.SEND) is AttemptState.SENDING
        for notice in notices:
            assert "too little space below" in notice.text or "is full or failing" in notice.text
            assert "make room: df -h " in notice.text
        assert len(notices) <= 1
        told += len(notices)
        with opened(path) as store:
            kept = [run.id for run in store.runs() if run.id != "mine"]
            assert len(kept) == (3 if version else 0)
    assert 0 < told < len(sizes)


def read_environment(path: Path) -> Environment:
    folder = path.parents[2]
    return Environment(
        environ={}, home=folder, folder=folder, state=path.parent, clock=lambda: 1000.0, holder="ada@here"
    )


@pytest.mark.parametrize("trouble", [no_database, cut_short, spoilt, of_somebody_else, of_the_same_version])
def test_the_advice_for_a_broken_store_works(path, trouble, capsys):
    """Pasted as it is, it puts the file and its journal away, and a new history starts."""
    with trouble(path):
        assert run(["runs"]) == 2
        Path(f"{path}-wal").write_bytes(b"of the broken one")
    line = capsys.readouterr().err.partition("a new history starts: ")[2]

    run_limited(["sh", "-euc", line], check=True)

    assert [one.name for one in path.parent.iterdir()] == ["bad"]
    assert run(["runs"]) == 0


def test_a_store_from_the_future_is_left_alone(path, capsys):
    """Exit 2 and what to do, for a build too: a newer archloom knows what is in there, and this one does not."""
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE runs (x)")
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()

    assert run(["runs"]) == 2
    with pytest.raises(ArchloomError, match="newer archloom"), open_history(read_environment(path), print):
        pass

    said = capsys.readouterr()
    assert said.err.splitlines() == [
        f"error: {path} was written by a newer archloom (store version 99, this one reads 5)",
        "hint: update archloom, or give another state folder with XDG_STATE_HOME",
    ]
    assert said.out == ""
    assert path.read_bytes() == before


AS_ANOTHER_USER = """
import os, sys
from pathlib import Path
from coordinator.cli.main import run
Path("/mnt").chmod(0o755)
assert run(["runs"]) == 0
os.setgid(65534)
os.setuid(65534)
sys.exit(run(["runs"]))
"""


@needs_root
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_what_belongs_to_root_is_said_so(path, mode):
    """After a `sudo archloom` the folder is root's: its owner gets the line that makes it theirs."""
    with opened(path) as store:
        create(store)
    path.parent.chmod(mode)
    # Mounted where anybody may go; what is in it is not theirs.
    at_mnt = f'mount --bind {shlex.quote(str(path.parents[1]))} /mnt && exec "$@"'
    seen = run_limited(
        [program("unshare"), "--mount", "sh", "-c", at_mnt, "sh", sys.executable, "-c", AS_ANOTHER_USER],
        cwd=ROOT,
        env={**os.environ, "XDG_STATE_HOME": "/mnt"},
        capture_output=True,
        text=True,
    )

    assert seen.returncode == 2, seen.stderr
    assert seen.stderr.splitlines() == [
        "error: cannot use the state folder /mnt/archloom: Permission denied",
        'hint: make it yours: sudo chown -R "$USER" /mnt/archloom; or give another state folder with XDG_STATE_HOME',
    ]


def test_a_locked_store_is_said_so(path):
    """Whoever waits for it learns which file it is and how to find out who holds it; reading is not kept waiting."""
    with opened(path, patience_s=0.1) as store:
        create(store)
        with locked(path):
            assert store.run("7f3a").id == "7f3a"
            with pytest.raises(LostError, match="is locked by another program") as caught:
                store.ask_cancel("7f3a")
        store.ask_cancel("7f3a")

    assert caught.value.hint == f"try again when it is done; to find it: fuser -v {path}"
    assert caught.value.code == "locked"


def test_a_store_that_cannot_even_be_read_is_said_so(path):
    """A program that holds it for itself keeps it from being opened."""
    filled(path)
    with locked(path, "EXCLUSIVE"), pytest.raises(LostError, match="is locked by another program"):
        opened(path, patience_s=0.1)
    with opened(path) as store:
        assert store.run("7f3a").jobs
