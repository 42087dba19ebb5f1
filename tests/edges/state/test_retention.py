"""The folders of runs, and logs that are too long."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coordinator.domain.run.events import Event, Notice
from coordinator.environment import Environment
from coordinator.errors import UsageError
from coordinator.state.logs import kept_log
from coordinator.state.retention import make_room
from coordinator.store.sqlite import Store
from tests.edges.state.state_bed import StateBed, state_bed


@pytest.fixture
def bed(tmp_path):
    with state_bed(tmp_path / "home") as opened:
        yield opened


def read_environment(bed: StateBed, budget: str) -> Environment:
    return Environment(
        environ={"ARCHLOOM_LOG_BUDGET": budget},
        home=bed.home.folder,
        folder=bed.home.folder,
        state=bed.home.state,
        clock=bed.now,
        holder="ann@desk",
    )


def folder(bed: StateBed, run: str, at: float) -> Path:
    """The run's folder with a log of 10 kB, last written at this moment."""
    log = bed.log(run, "x" * 10_000)
    for path in (*log.parent.iterdir(), log.parent):
        os.utime(path, (at, at))
    return log.parent


def test_the_oldest_logs_go_when_a_run_begins(bed):
    """The runs themselves are remembered."""
    folders = []
    for at, run in enumerate(("aaaa", "bbbb", "cccc")):
        bed.begin(run)
        bed.fail(run)
        folders.append(folder(bed, run, 1000.0 + at))
    told: list[Event] = []

    make_room(read_environment(bed, "32kB"), bed.store, told.append)

    assert [path.is_dir() for path in folders] == [False, True, True]
    assert told == []
    assert len(bed.store.runs()) == 3
    assert bed.home.run("logs", "aaaa").stderr.endswith(": no log: it was deleted; failed (build): exit code: 2\n")


def test_what_is_under_way_or_of_nobody_stays(bed):
    """However little room there is; a folder of nobody goes when it is a day old."""
    bed.begin("aaaa")
    bed.at = 200_000.0
    open_run = folder(bed, "aaaa", 1000.0)
    fresh, old = folder(bed, "bbbb", 190_000.0), folder(bed, "cccc", 100_000.0)

    make_room(read_environment(bed, "1kB"), bed.store, lambda _: None)

    assert [path.is_dir() for path in (open_run, fresh, old)] == [True, True, False]


def test_without_history_nothing_goes(bed):
    """Nobody can tell then whose the folders are."""
    old = folder(bed, "aaaa", 1000.0)

    with Store(None, bed.now) as private:
        make_room(read_environment(bed, "1kB"), private, lambda _: None)

    assert old.is_dir()


def test_a_budget_that_is_no_size(bed):
    """It is told with an example, before anything is deleted."""
    with pytest.raises(UsageError, match=r"ARCHLOOM_LOG_BUDGET: expected a size such as 20GB or 500MB, found 'lots'"):
        make_room(read_environment(bed, "lots"), bed.store, lambda _: None)


def write(path: Path, texts: list[str], **more) -> list[Event]:
    told: list[Event] = []
    with kept_log(path, told.append, **more) as keep:
        for text in texts:
            keep(text)
    return told


def test_a_log_is_kept_as_it_came(tmp_path):
    """To the byte, in a folder nobody else can read."""
    path = tmp_path / "run" / "amd64-1.log"

    assert write(path, ["#1 a\r\n", "#1 \udc80\n", "", "no end"]) == []

    assert path.read_bytes() == b"#1 a\r\n#1 ?\nno end"
    assert path.parent.stat().st_mode & 0o077 == 0


def test_of_a_log_that_is_too_long_the_beginning_and_the_end_are_kept(tmp_path):
    """And it says how much is not."""
    path = tmp_path / "log"
    lines = [f"line {number:05}\n" for number in range(10_000)]

    write(path, lines, most_bytes=1100, last_bytes=550)

    kept = path.read_text()
    assert kept.startswith("".join(lines[:100]))
    assert kept.endswith("".join(lines[-50:]))
    left_out = sum(map(len, lines)) - 1100 - 550
    assert f"[archloom: {left_out} bytes were dropped]\n" in kept
    assert "[archloom: this log is long;" in kept
    assert len(kept) < 1100 + 550 + 200


def test_a_log_that_is_a_little_too_long_is_whole(tmp_path):
    """What fits into the end is not lost, but for a line that says where it goes on."""
    path = tmp_path / "log"

    write(path, ["abc\n", "def\n"], most_bytes=4, last_bytes=100)

    assert path.read_text().startswith("abc\n\n[archloom")
    assert path.read_text().endswith("]\ndef\n")
    assert "not kept" not in path.read_text()


@pytest.mark.parametrize("kept", ["", "a", "ab", "abc\nd", "abc\ndéf\n"])
def test_a_log_that_is_told_again_goes_on_where_it_stopped(tmp_path, kept):
    """Its first reader died in the middle; what is kept stays there until more comes, and nothing is in it twice."""
    path = tmp_path / "log"
    path.write_text(kept)

    with kept_log(path, [].append) as keep:
        assert path.read_text() == kept
        for piece in ("ab", "c\nd", "éf\n", "ghi\n"):
            keep(piece)

    assert path.read_text() == "abc\ndéf\nghi\n"


def test_a_long_log_that_is_told_again_is_kept_as_the_first_time(tmp_path):
    """What is beyond its beginning is not gone on with: nobody knows where that stood."""
    pieces = ["x" * 10 + "\n"] * 20
    once, twice = tmp_path / "once", tmp_path / "twice"
    write(once, pieces, most_bytes=50, last_bytes=30)
    write(twice, pieces[:12], most_bytes=50, last_bytes=30)

    write(twice, pieces, most_bytes=50, last_bytes=30)

    assert once.read_text() == twice.read_text()


def test_a_disk_that_takes_no_more_costs_the_log_not_the_build(tmp_path):
    """It is said once."""
    path = tmp_path / "log"
    path.symlink_to("/dev/full")

    assert write(path, ["a", "b"]) == [
        Notice(f"the rest of the build log cannot be written: {path}: No space left on device")
    ]
