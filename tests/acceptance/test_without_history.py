"""A build whose store cannot be used goes on without: what that costs is history, not the image."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest

from coordinator.store.sqlite import Store
from tests.acceptance.archloom import Home, context, good
from tests.edges.store.trouble_bed import locked, needs_root, no_database, read_only
from tests.services.images import base_image
from tests.services.judges import pulled

pytestmark = pytest.mark.engine
Trouble = Callable[[Path], AbstractContextManager[None]]


def in_use(path: Path) -> AbstractContextManager[None]:
    Store(path, lambda: 0.0).close()
    return locked(path)


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (no_database, "is not a readable store: file is not a database; put it away"),
        (in_use, "is locked by another program; try again"),
        pytest.param(read_only, "Read-only file system; give another state folder", marks=needs_root),
    ],
)
@pytest.mark.usefixtures("nothing_left")
def test_a_build_goes_on_without_history(registry, home, tmp_path, trouble, why):
    """It says so once, with the reason and the cure, publishes, and exits 0."""
    base = base_image(registry, "linux/amd64", repository="history/base")
    tag = f"{registry.address}/history/app:1"
    folder = context(tmp_path / "app", f"FROM {base.reference}\nRUN echo {trouble.__name__} >/a\n")
    with trouble(home.state / "archloom.db"):
        done = good(home.run("build", str(folder), "-t", tag, "--platform", "linux/amd64"))

    (line,) = [line for line in done.stderr.splitlines() if "history" in line and "no history" in line]
    assert "this run cannot be resumed" in line
    assert why in line
    assert [note for note in done.stderr.splitlines() if note.startswith("note: ") and str(home.state) in note] == [
        line
    ]
    with pulled(tag, "linux/amd64"):
        pass


@pytest.mark.usefixtures("nothing_left")
def test_a_newer_archloom_s_store_stops_a_build(registry, home: Home, hello):
    """Exit 2 before anything is sent: what the newer one knows of this run would be missing."""
    path = home.state / "archloom.db"
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")

    done = home.run("build", str(hello), "-t", f"{registry.address}/history/new:1", "--platform", "linux/amd64")

    assert done.returncode == 2
    assert f"error: {path} was written by a newer archloom" in done.stderr
    assert "hint: update archloom" in done.stderr
