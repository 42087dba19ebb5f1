"""The store as a file: private, brought up to date from what earlier versions left, and its own guard."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.domain.hosts.last_probe import LastProbe
from coordinator.domain.run import states
from coordinator.domain.run.history import RunEnded
from coordinator.domain.run.states import AttemptEvent, AttemptState, JobEvent, JobState, TargetEvent, TargetState
from coordinator.store.database import VERSION
from coordinator.store.folders import private_folder
from coordinator.store.queries import schema
from coordinator.store.sqlite import Store
from tests.edges.store.store_bed import CHILD, OURS, THEIRS, TO_PUSHED, assigned, create, end, old_store
from tests.services.commands import Child
from tests.services.paths import ROOT

MADE = ("attempts", "events", "facts", "jobs", "leases", "pins", "runs", "tags")


def opened(path: Path) -> Store:
    return Store(path, lambda: 1000.0)


def contents(path: Path) -> dict[str, list[dict[str, object]]]:
    """The rows of every table, by the names of their columns."""
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: [dict(row) for row in db.execute(f"SELECT * FROM {table} ORDER BY rowid")] for table in tables}


def made(path: Path) -> list[tuple[str, ...]]:
    """The schema."""
    with closing(sqlite3.connect(path)) as db:
        return [tuple(row) for row in db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name")]


def run_script(script: str, *words: str) -> Child:
    return Child([sys.executable, "-c", script, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_nobody_else_reads_it(tmp_path):
    """The folder, the file and what SQLite keeps beside it are private: build arguments are in there."""
    path = tmp_path / "state" / "archloom" / "archloom.db"
    with opened(path) as store:
        create(store)
        modes = {one.name: one.stat().st_mode & 0o777 for one in path.parent.iterdir()}

    assert modes == {"archloom.db": 0o600, "archloom.db-wal": 0o600, "archloom.db-shm": 0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_folders_above_it_are_as_private(tmp_path):
    """Whichever of archloom's files comes first makes them; those there were stay as their user has them."""
    there = tmp_path / "there"
    there.mkdir(mode=0o755)

    private_folder(there / "state" / "archloom" / "runs" / "7f3a")

    made = [there, *(one for one in there.rglob("*"))]
    assert [one.stat().st_mode & 0o777 for one in made] == [0o755, 0o700, 0o700, 0o700, 0o700]
    private_folder(there)


def test_what_is_committed_is_on_the_disk(tmp_path):
    """Whatever the SQLite at hand was built to do by default."""
    with opened(tmp_path / "archloom.db") as store:
        assert store._db._connection.execute("PRAGMA synchronous").fetchone()[0] == 2


@pytest.mark.parametrize("version", range(1, VERSION))
def test_an_older_store_is_taken_over_with_all_that_is_in_it(tmp_path, version):
    """Its rows stay as they were, what came later finds room, and the schema is that of a new store."""
    path = old_store(tmp_path / "archloom.db", version)
    before = contents(path)

    opened(path).close()

    after = contents(path)
    assert sorted(after) == sorted(MADE)
    for table, rows in before.items():
        kept = [{name: row[name] for name in old} for row, old in zip(after[table], rows, strict=True)]
        assert kept == rows
    opened(tmp_path / "new.db").close()
    assert made(path) == made(tmp_path / "new.db")


@pytest.mark.parametrize("version", range(1, VERSION))
def test_the_runs_of_an_older_store_can_be_used(tmp_path, version):
    """They are listed as they ended, and one whose coordinator died is nobody's."""
    path = old_store(tmp_path / "archloom.db", version)
    with opened(path) as store:
        open_, failed, published = store.runs()

        assert (published.target_state, published.exit_code) == (TargetState.PUBLISHED, 0)
        assert [(job.state, job.reused, len(job.attempts)) for job in published.jobs] == [
            (JobState.VERIFIED, False, 2),
            (JobState.VERIFIED, True, 0),
            (JobState.VERIFIED, False, 1),
        ]
        assert [tag.moved for tag in published.tags] == [True, True]
        assert published.request["build_args"] == {"GREETING": "grüß, 'Ada'"}
        assert (published.inputs, published.inventory, published.cancel_asked) == ({}, "", False)
        assert [job.state for job in failed.jobs] == [JobState.FAILED, JobState.CANCELLED]
        assert [[(attempt.state, attempt.agent_job) for attempt in job.attempts[-1:]] for job in open_.jobs] == [
            [(AttemptState.BUILT, f"{open_.id}-{open_.jobs[0].platform.slug}-{len(open_.jobs[0].attempts)}")],
            [(AttemptState.BUILDING, f"{open_.id}-{open_.jobs[1].platform.slug}-{len(open_.jobs[1].attempts)}")],
            [],
        ]
        assert store.previous(open_) == failed
        assert store.newest_unfinished() == open_
        assert store.events(failed.id)[-1].what == RunEnded(4)
        known = store.probes.last().get(("pi5", "ssh://pi@pi5.lan"), LastProbe(observation=None, seen_at=0.0))
        assert known.seen_at == (0.0 if version == 1 else 1763929000.5)

        store.take_lease(open_.id, THEIRS)
        end(store, open_.id, 130)
        assert store.prune([run.id for run in store.runs()]) == (open_.id, failed.id, published.id)


DYING = """
import os, signal, sys
from pathlib import Path
from coordinator.domain.run.history import RunEnded
from coordinator.store.database import Database

def dies_at(path, last):
    seen = 0
    def lines(frame, event, _):
        nonlocal seen
        seen += event == "line"
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return lines
    code = Database._prepare.__code__, Database._transaction.__wrapped__.__code__
    sys.settrace(lambda frame, *_: lines if frame.f_code in code else None)
    Database(path, 1.0, None).close()

last = 0
while True:
    last += 1
    path = Path(sys.argv[1], f"{last}.db")
    path.write_bytes(Path(sys.argv[2]).read_bytes())
    if not (child := os.fork()):
        dies_at(path, last)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
print(last)
"""


def test_a_death_in_the_middle_of_a_migration_costs_nothing(tmp_path):
    """Killed at any line of it, the store is the old one or the new one, and the next start makes it the new one."""
    path = old_store(tmp_path / "old.db", 1)
    before = contents(path)

    died = run_script(DYING, str(tmp_path), str(path))

    count = int(died.communicate()[0])
    assert count > len(list(schema(1, VERSION)))
    versions = set()
    for number in range(1, count + 1):
        broken = tmp_path / f"{number}.db"
        with closing(sqlite3.connect(broken)) as db:
            versions.add(db.execute("PRAGMA user_version").fetchone()[0])
        opened(broken).close()
        assert {table: len(rows) for table, rows in contents(broken).items() if table in before} == {
            table: len(rows) for table, rows in before.items()
        }
        with closing(sqlite3.connect(broken)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert versions == {1, VERSION}


FIRST_START = """
import sys
from pathlib import Path
from coordinator.domain.image.platforms import parse
from coordinator.store.processes import this_driver
from coordinator.store.sqlite import Store
with Store(Path(sys.argv[1]), lambda: 0.0) as store:
    driver = this_driver("u@m", "t")
    store.create_run(sys.argv[2], {}, {parse("linux/arm64"): "x"}, driver=driver, inputs={}, inventory="")
"""


@pytest.mark.parametrize("version", range(VERSION))
def test_first_starts_meet(tmp_path, version):
    """Processes that make or update the store at the same moment all get it, whole."""
    path = tmp_path / "archloom.db"
    if version:
        old_store(path, version)
    started = [run_script(FIRST_START, str(path), f"run{number}") for number in range(6)]

    assert [process.communicate() and process.returncode for process in started] == [0] * 6
    with opened(path) as store:
        assert sum(run.id.startswith("run") for run in store.runs()) == 6


TAKE_OVER = """
import sys
from pathlib import Path
from coordinator.errors import DrivenElsewhereError
from coordinator.store.processes import this_driver
from coordinator.store.sqlite import Store
with Store(Path(sys.argv[1]), lambda: 0.0) as store:
    try:
        store.take_lease("7f3a", this_driver("u@m", sys.argv[2]))
        print("mine", flush=True)
    except DrivenElsewhereError as refused:
        print(refused.code, flush=True)
    sys.stdin.read()
"""


def test_of_coordinators_that_race_for_a_run_one_gets_it(tmp_path):
    """Its driver is dead, and several find that out at once: the first takes its place, the others meet that one."""
    path = tmp_path / "archloom.db"
    gone = Child(["true"])
    gone.wait(60)
    with opened(path) as store:
        create(store, driver=replace(OURS, pid=gone.pid))
    racing = [
        Child(
            [sys.executable, "-c", TAKE_OVER, str(path), str(number)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(6)
    ]

    said = [process.line().strip() for process in racing]

    for process in racing:
        process.communicate()
    assert sorted(said) == ["held"] * 5 + ["mine"]


def ended(table) -> set[str]:
    return {state.value for state in table if states.ended(state)}


@pytest.mark.parametrize(
    ("trigger", "wanted"),
    [
        ("attempt_ended", ended(states.ATTEMPT)),
        ("job_ended", ended(states.JOB)),
        ("target_ended", ended(states.TARGET)),
        ("target_undecided", ended(states.TARGET)),
    ],
)
def test_the_database_knows_which_states_are_ends(tmp_path, trigger, wanted):
    """Its lists are those of the three tables."""
    opened(tmp_path / "archloom.db").close()
    (sql,) = [sql for _, name, sql in made(tmp_path / "archloom.db") if name == trigger]
    listed = re.search(r"IN \(([^)]*)\)", sql)

    assert listed is not None
    assert set(re.findall(r"'(\w+)'", listed[1])) == wanted


def finished_run(store: Store) -> None:
    """One job has a winner beside an attempt that was lost, the other has failed; the target is given up."""
    one, other = create(store).jobs
    assigned(store, one.id, AttemptEvent.LOSE)
    store.move_job(one.id, JobEvent.RETRY)
    winner = assigned(store, one.id, *TO_PUSHED)
    store.verify_job(one.id, CHILD, winner=winner.id)
    assigned(store, other.id, AttemptEvent.SEND, AttemptEvent.FAIL)
    store.move_job(other.id, JobEvent.FAIL)
    end(store)


ATTEMPT = "INSERT INTO attempts (job_id, number, host, mode, started_at) VALUES (4, {number}, '{host}', 'native', 0.0)"
LEASE = "INSERT INTO leases VALUES ('{run}', 't', 'h', 1, '', '', 0.0)"


@pytest.mark.parametrize(
    ("statement", "refused"),
    [
        ("UPDATE attempts SET winning = 1 WHERE id = 1", "that has ended or won|only a pushed attempt wins"),
        ("UPDATE attempts SET state = 'building' WHERE id = 1", "an attempt that has ended or won"),
        ("UPDATE attempts SET state = 'lost' WHERE id = 2", "that has ended or won|only a pushed attempt wins"),
        ("UPDATE attempts SET winning = 1 WHERE id = 4", "only a pushed attempt wins"),
        ("UPDATE attempts SET winning = 1 WHERE id = 50", "UNIQUE"),
        (ATTEMPT.format(number=8, host="pi5"), "UNIQUE|two attempts at most"),
        (ATTEMPT.format(number=8, host="pi3"), "two attempts at most"),
        ("UPDATE jobs SET state = 'pending' WHERE id = 1", "a job that has ended"),
        ("UPDATE jobs SET child = '{}' WHERE id = 1", "a job that has ended"),
        ("UPDATE jobs SET state = 'active' WHERE id = 2", "a job that has ended"),
        ("UPDATE jobs SET state = 'verified' WHERE id = 3", "a verified job has a child"),
        ("UPDATE runs SET exit_code = 0 WHERE id = '7f3a'", "a finished run"),
        ("UPDATE runs SET target_state = 'published' WHERE id = 'open'", "what is published has an index"),
        ("UPDATE runs SET target_state = 'open' WHERE id = 'given up'", "a target that has ended"),
        ("UPDATE runs SET index_digest = 'x' WHERE id = 'given up'", "a target that has ended"),
        ("UPDATE runs SET finished_at = 1.0 WHERE id = 'given up'", "nobody drives a finished run"),
        ("UPDATE runs SET finished_at = 1.0 WHERE id = 'released'", "a run ends with its target"),
        (LEASE.format(run="7f3a"), "nobody drives a finished run"),
        (LEASE.format(run="open"), "UNIQUE"),
        (LEASE.format(run="nope"), "FOREIGN KEY"),
        ("DELETE FROM runs WHERE id = 'open'", "only finished runs are deleted"),
    ],
)
def test_the_database_refuses_what_no_program_may_do(tmp_path, statement, refused):
    """Whoever writes to the file: one winner a job, one driver a run, what has ended stays as it is."""
    path = tmp_path / "archloom.db"
    with opened(path) as store:
        finished_run(store)
        job = create(store, "open").jobs[0]
        assigned(store, job.id)
        two = store.run("open").jobs[1]
        assigned(store, two.id)
        assigned(store, two.id, host="pi4")
        create(store, "given up")
        store.move_target("given up", TargetEvent.GIVE_UP)
        create(store, "released")
        store.release("released")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA foreign_keys = ON")
        # A second attempt that was pushed, of a job that has a winner.
        db.execute(
            "INSERT INTO attempts (id, job_id, number, host, mode, state, started_at) "
            "VALUES (50, 1, 3, 'pi5', 'native', 'pushed', 0.0)"
        )

        with pytest.raises(sqlite3.IntegrityError, match=refused):
            db.execute(statement)
