"""The store keeps what a coordinator must find again, and refuses what it must not keep."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from coordinator.domain.known import Sighting
from coordinator.domain.platforms import Mode, parse
from coordinator.domain.states import (
    AttemptEvent,
    AttemptState,
    ForbiddenTransitionError,
    JobEvent,
    JobState,
    TargetEvent,
)
from coordinator.errors import LostError, UsageError
from coordinator.store.processes import this_driver
from coordinator.store.queries import schema
from coordinator.store.sqlite import Store

ARM64 = parse("linux/arm64")
AMD64 = parse("linux/amd64")
DRIVER = this_driver("u@m", "token")


@pytest.fixture
def store(tmp_path: Path):
    ticks = count(1000)
    with Store(tmp_path / "state" / "archloom.db", lambda: float(next(ticks))) as opened:
        yield opened


def start(store: Store, run_id: str = "7f3a"):
    build_ids = {AMD64: "b" * 64, ARM64: "a" * 64}
    return store.create_run(run_id, {"tags": ["nas/app:1"]}, build_ids, driver=DRIVER, inputs={}, inventory="")


def fill(store: Store, prefix: str):
    for n in range(2000):
        store.create_run(f"{prefix}{n}", {"filler": "x" * 4000}, {ARM64: "a"}, driver=DRIVER, inputs={}, inventory="")


def test_a_new_run_has_a_pending_job_per_platform(store):
    """A run begins with one pending job for each platform, in the order asked."""
    run = start(store)

    assert [(job.platform, job.state, job.build_id[0]) for job in run.jobs] == [
        (AMD64, JobState.PENDING, "b"),
        (ARM64, JobState.PENDING, "a"),
    ]
    assert run.request == {"tags": ["nas/app:1"]}


def test_another_process_sees_what_was_committed(store):
    """What the store returned from is there for the next coordinator."""
    run = start(store)
    attempt = store.assign(run.jobs[0].id, "pi5", Mode.NATIVE)
    store.move_attempt(attempt.id, AttemptEvent.SEND)

    with Store(store.path, lambda: 0.0) as other:
        seen = other.run("7f3a").jobs[0]

    assert seen.state is JobState.ACTIVE
    assert [(one.host, one.mode, one.state, one.number) for one in seen.attempts] == [
        ("pi5", Mode.NATIVE, AttemptState.SENDING, 1)
    ]


def test_a_forbidden_transition_changes_nothing(store):
    """The tables decide: a step they do not have leaves the stored state as it was."""
    run = start(store)
    attempt = store.assign(run.jobs[0].id, "pi5", Mode.NATIVE)

    with pytest.raises(ForbiddenTransitionError):
        store.move_attempt(attempt.id, AttemptEvent.PUSHED)

    assert store.run("7f3a").jobs[0].attempts[0].state is AttemptState.ASSIGNED


def test_a_job_has_one_winner(store):
    """The database itself refuses a second winning attempt."""
    job = start(store).jobs[0]
    first = store.assign(job.id, "pi5", Mode.NATIVE)
    store.move_attempt(first.id, AttemptEvent.LOSE, code="connection")
    store.move_job(job.id, JobEvent.RETRY)
    second = store.assign(job.id, "pi4", Mode.NATIVE)
    for event in (AttemptEvent.SEND, AttemptEvent.SENT, AttemptEvent.BUILT, AttemptEvent.PUSH, AttemptEvent.PUSHED):
        store.move_attempt(second.id, event)
    store.verify_job(job.id, {"digest": "sha256:1"}, winner=second.id)

    with sqlite3.connect(store.path) as db, pytest.raises(sqlite3.IntegrityError):
        db.execute("UPDATE attempts SET winning = 1 WHERE id = ?", (first.id,))
    db.close()


def test_a_tag_remembers_what_it_was_before_the_run(store):
    """A resumed run does not take its own new tag for the old one."""
    start(store)
    store.expect_tag("7f3a", "nas/app:1", "sha256:old")
    store.expect_tag("7f3a", "nas/app:1", "sha256:new")
    store.tag_moved("7f3a", "nas/app:1")

    (tag,) = store.run("7f3a").tags

    assert (tag.previous, tag.moved) == ("sha256:old", True)


def test_the_index_digest_stays_once_it_is_known(store):
    """Later transitions of the target keep the digest an earlier one wrote."""
    start(store)
    store.move_target("7f3a", TargetEvent.COMPLETE)
    store.move_target("7f3a", TargetEvent.INDEX, digest="sha256:i")
    store.move_target("7f3a", TargetEvent.TAG)

    assert store.run("7f3a").index_digest == "sha256:i"


def test_a_run_is_found_by_the_beginning_of_its_id(store):
    """A prefix is enough where only one run has it; two are an error that says so, none as well."""
    start(store, "7f3a")
    start(store, "7f00")

    assert store.find_run("7f3").id == "7f3a"
    with pytest.raises(UsageError, match="more than one run begins with '7f'"):
        store.find_run("7f")
    with pytest.raises(UsageError, match="no run 'zz%'"):
        store.find_run("zz%")


def test_the_file_is_private(store):
    """Nobody else on the machine reads what was built with which arguments."""
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.path.parent.stat().st_mode & 0o777 == 0o700


def test_what_is_remembered_of_a_host_is_by_name_and_address(store):
    """Facts outlive the silence that follows them, and an answer ends the silence."""
    seen = Sighting(observation={"cores": 4}, seen_at=5.0, round_trip=0.5, machine="m b")
    store.saw_host("pi4", "ssh://pi4", seen)
    store.missed_host("pi4", "ssh://pi4", "no SSH answer", "ping it")
    store.missed_host("pi4", "ssh://elsewhere", "no route", "")

    silent = store.sightings()
    store.saw_host("pi4", "ssh://pi4", seen)

    assert silent["pi4", "ssh://pi4"] == replace(seen, silent_at=1001.0, message="no SSH answer", hint="ping it")
    assert silent["pi4", "ssh://elsewhere"].observation is None
    assert store.sightings()["pi4", "ssh://pi4"] == seen


def test_hosts_that_nobody_has_asked_for_long_are_forgotten(tmp_path):
    """Entries come and go; what was known of them does not stay for ever."""
    now = 1000.0
    with Store(tmp_path / "archloom.db", lambda: now) as store:
        store.missed_host("old", "ssh://old", "off", "")
        now += 91 * 86400
        store.saw_host("pi4", "ssh://pi4", Sighting(observation={}, seen_at=now))

        assert list(store.sightings()) == [("pi4", "ssh://pi4")]


def test_a_store_of_the_first_version_is_taken_over(tmp_path):
    """Its runs stay, and the facts of hosts find room."""
    path = tmp_path / "archloom.db"
    db = sqlite3.connect(path)
    db.executescript("".join(schema(0, 1)) + "PRAGMA user_version = 1;")
    db.execute("INSERT INTO runs (id, created_at, request) VALUES ('7f3a', 1.0, '{}')")
    db.commit()
    db.close()

    with Store(path, lambda: 2.0) as store:
        store.missed_host("pi4", "ssh://pi4", "off", "")
        assert store.run("7f3a").created_at == 1.0
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (3,)
    db.close()


def test_a_store_from_the_future_is_refused(tmp_path):
    """A newer archloom's store is left alone."""
    path = tmp_path / "archloom.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()

    with pytest.raises(UsageError, match="newer archloom"):
        Store(path, lambda: 0.0)


def test_a_file_that_is_no_store_is_refused_with_a_way_out(tmp_path):
    """A corrupt file is named, with the line that moves it away."""
    path = tmp_path / "archloom.db"
    path.write_bytes(b"not a database" * 500)

    with pytest.raises(UsageError, match="not a readable store") as caught:
        Store(path, lambda: 0.0)

    assert f"mv {path} {path}.bad" in caught.value.hint


def test_a_state_folder_that_cannot_be_made_is_an_error_with_a_hint(tmp_path):
    """A file where the folder should be is said in a sentence."""
    (tmp_path / "state").write_text("")

    with pytest.raises(UsageError, match="cannot use the state folder"):
        Store(tmp_path / "state" / "archloom.db", lambda: 0.0)


def test_two_first_starts_meet(tmp_path):
    """Processes that create the store at the same moment both get it."""
    script = (
        "import sys; from pathlib import Path\n"
        "from coordinator.store.sqlite import Store\n"
        "from coordinator.domain.platforms import parse\n"
        "from coordinator.store.processes import this_driver\n"
        "with Store(Path(sys.argv[1]), lambda: 0.0) as s:\n"
        "    build_ids, driver = {parse('linux/arm64'): 'x'}, this_driver('u@m', 't')\n"
        "    s.create_run(sys.argv[2], {}, build_ids, driver=driver, inputs={}, inventory='')"
    )
    path = tmp_path / "archloom.db"
    started = [subprocess.Popen([sys.executable, "-c", script, str(path), f"run{n}"]) for n in range(6)]

    assert [process.wait() for process in started] == [0] * 6
    with Store(path, lambda: 0.0) as store:
        assert len(store.runs()) == 6


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_is_said_as_such(tmp_path):
    """Writing on a full file system ends in an error that names the file and the cause, and loses nothing written."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(tmp_path)], check=True)
    try:
        with Store(tmp_path / "archloom.db", lambda: 0.0) as store:
            start(store)
            with pytest.raises(LostError, match="full or failing"):
                fill(store, "a")
            with pytest.raises(LostError, match="full or failing"):
                fill(store, "b")
            assert store.run("7f3a").jobs
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
