"""Ways to keep a store from being used, by real means."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from coordinator.store.sqlite import Store
from tests.edges.store.store_bed import create
from tests.services.commands import Child, run_limited

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


def opened(path: Path | None, **more) -> Store:
    return Store(path, lambda: 1000.0, **more)


def filled(path: Path) -> None:
    """A store with a run, and enough besides that its middle can be spoilt."""
    with opened(path) as store:
        create(store)
        for number in range(100):
            create(store, f"run{number}", "x" * 2000)


@contextmanager
def mounted(folder: Path, *words: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    run_limited(["mount", *words, str(folder)], check=True)
    try:
        yield
    finally:
        run_limited(["umount", str(folder)], check=True)


def fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(b"x" * 4096)


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    filled(path)
    with mounted(path.parent, "--bind", str(path.parent)):
        run_limited(["mount", "-o", "remount,bind,ro", str(path.parent)], check=True)
        yield


@contextmanager
def no_database(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is no database" * 500)
    yield


LOCKS = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute(f"PRAGMA locking_mode = {sys.argv[2]}")
db.execute(f"BEGIN {sys.argv[2] if sys.argv[2] == 'EXCLUSIVE' else 'IMMEDIATE'}")
db.execute("UPDATE runs SET inventory = inventory").fetchall()
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(path: Path, mode: str = "NORMAL") -> Iterator[None]:
    """Another process holds the write lock, in the mode EXCLUSIVE also against readers."""
    with Child(
        [sys.executable, "-c", LOCKS, str(path), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.line() == "locked\n"
        yield
        process.communicate()


@contextmanager
def fills_up(path: Path) -> Iterator[Callable[[], None]]:
    with mounted(path.parent, "-t", "tmpfs", "-o", "size=8m", "tmpfs"):
        yield lambda: fill(path.parent)


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes: to who writes it, as good as a full disk."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


@contextmanager
def gets_locked(path: Path) -> Iterator[Callable[[], None]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(locked(path))
