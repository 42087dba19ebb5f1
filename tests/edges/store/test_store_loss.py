"""A store that fails in the middle of a run, by real means: the run goes on, and the file keeps what it had."""

from __future__ import annotations

import shutil
import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from coordinator.domain.run.states import AttemptEvent, JobEvent, TargetEvent
from coordinator.errors import ArchloomError, DrivenElsewhereError, Exit, LostError
from coordinator.store.sqlite import Store
from coordinator.store.troubles import DISPENSABLE
from tests.edges.store.store_bed import AMD64, CHILD, OURS, THEIRS, TO_PUSHED, assigned, create, end
from tests.edges.store.trouble_bed import fills_up, gets_locked, needs_root, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a store in a folder of its own."""
    return tmp_path / "state" / "archloom" / "archloom.db"


LATER = [pytest.param(fills_up, "disk", id="full", marks=needs_root), pytest.param(gets_locked, "locked", id="locked")]


def every_step(store: Store) -> Iterator[None]:
    """A run that loses an attempt, in steps."""
    one, other = create(store).jobs
    yield
    lost = assigned(store, one.id, AttemptEvent.SEND)
    yield
    store.move_attempt(lost.id, AttemptEvent.LOSE, code="disk", message="no room")
    store.move_job(one.id, JobEvent.RETRY)
    yield
    winner = assigned(store, one.id, *TO_PUSHED, host="pi4")
    yield
    store.verify_job(one.id, CHILD, winner=winner.id)
    store.move_job(other.id, JobEvent.SKIP)
    yield
    store.expect_tag("7f3a", "nas/app:1", "")
    end(store)


@pytest.mark.parametrize(("trouble", "code"), LATER)
@pytest.mark.parametrize("steps", range(6))
def test_a_store_that_fails_in_the_middle_of_a_run_costs_history_and_nothing_else(path, trouble, code, steps):
    """Wherever it happens: what is under way is done in memory, the run goes to its end as it would have, and it is
    told once. The file keeps what was committed before."""
    with opened(None) as undisturbed:
        deque(every_step(undisturbed), maxlen=0)
        wanted = undisturbed.run("7f3a"), undisturbed.events("7f3a")
    lost: list[ArchloomError] = []
    with trouble(path) as begins:
        with opened(path, patience_s=0.05, on_loss=lost.append) as store:
            rest = every_step(store)
            deque(islice(rest, steps), maxlen=0)
            before = [(run, store.events(run.id)) for run in store.runs()]
            begins()
            deque(rest, maxlen=0)
            assert (store.run("7f3a"), store.events("7f3a")) == wanted
        for name in ("archloom.db", "archloom.db-wal"):
            shutil.copy(path.with_name(name), path.parents[1])

    assert [error.code for error in lost] == [code]
    with opened(path.parents[1] / "archloom.db") as kept:
        assert [(run, kept.events(run.id)) for run in kept.runs()] == before


@needs_root
def test_a_change_larger_than_the_disk_is_done_in_memory(path):
    """Its first queries too, which had gone well before one of them found the disk full."""
    lost: list[ArchloomError] = []
    large = {"filler": "x" * 20_000_000}
    with fills_up(path), opened(path, on_loss=lost.append) as store:
        create(store)
        run = store.create_run("large", {}, {AMD64: "a"}, driver=OURS, inputs=large, inventory="")
        assert run.inputs == large
        assert [one.id for one in store.runs()] == ["large", "7f3a"]

    assert [error.code for error in lost] == ["disk"]


@needs_root
def test_a_full_disk_loses_nothing_that_was_written(path):
    """Where nobody asked to go on without, every write says so, and what was committed before can be read."""
    with fills_up(path) as begins, opened(path) as store:
        create(store)
        store.move_target("7f3a", TargetEvent.GIVE_UP)
        before = store.run("7f3a")
        begins()
        for _ in range(2):
            with pytest.raises(LostError, match="too little space below") as caught:
                create(store, "another")
        assert caught.value.hint == f"make room: df -h {path.parent} shows the disk"
        with pytest.raises(LostError):
            store.finish("7f3a", 4)
        assert store.runs() == (before,)
        (path.parent / "filler").unlink()
        store.finish("7f3a", 4)
        create(store, "another")


def test_a_defect_is_no_trouble_of_the_file(path):
    """What the database refuses is not gone on with in memory."""
    lost: list[ArchloomError] = []
    with opened(path, on_loss=lost.append) as store:
        create(store)
        with pytest.raises(ArchloomError, match="UNIQUE"):
            create(store)
        with opened(path, is_alive=lambda _: False) as other:
            other.take_lease("7f3a", THEIRS)
        with pytest.raises(DrivenElsewhereError):
            store.finish("7f3a", 0)

    assert lost == []


def test_a_mistake_in_our_sql_is_not_blamed_on_the_file(path):
    """A statement that does not fit the tables of an open store is a bug: nobody is told to put a good file away, and
    history is not given up for it."""
    lost: list[ArchloomError] = []
    with opened(path, on_loss=lost.append) as store:
        create(store)
        with closing(sqlite3.connect(path)) as db:
            db.execute("ALTER TABLE tags RENAME COLUMN previous TO before")
        with pytest.raises(ArchloomError, match="no column named previous") as caught:
            store.expect_tag("7f3a", "nas/app:1", "")
        store.move_target("7f3a", TargetEvent.GIVE_UP)

    assert (caught.value.exit_code, caught.value.hint, lost) == (Exit.BUG, "", [])
    assert caught.value.code not in DISPENSABLE
