"""What the run folders take, without asking the disk for every file of every run before each build."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from coordinator.state.folder_sizes import FolderSize, all_measured, folder_sizes
from coordinator.state.logs import runs_folder

NOW = time.time()
LONG_AGO = NOW - 3600


def folder(state: Path, run: str, size: int = 1000, at: float = LONG_AGO) -> Path:
    made = runs_folder(state) / run
    made.mkdir(parents=True)
    (made / "log").write_bytes(b"x" * size)
    written(made, at)
    return made


def written(made: Path, at: float) -> None:
    for path in (*made.iterdir(), made):
        os.utime(path, (at, at))


def sizes(state: Path) -> list[FolderSize]:
    """Where all runs have ended."""
    return folder_sizes(state, lambda _: True, NOW)


def test_ended_runs_are_measured_once(tmp_path):
    """They no longer change: what changes all the same shows that they are not measured."""
    ended, going = folder(tmp_path, "aaaa"), folder(tmp_path, "bbbb")
    before = folder_sizes(tmp_path, lambda run: run == "aaaa", NOW)
    assert sorted(before) == sorted(all_measured(tmp_path))

    for made in (ended, going):
        (made / "log").write_bytes(b"x" * 1500)
    after = {found.run: found.size for found in folder_sizes(tmp_path, lambda run: run == "aaaa", NOW)}

    assert after == {found.run: found.size + 500 * (found.run == "bbbb") for found in before}


def test_a_run_that_ends_meanwhile_is_kept_whole(tmp_path):
    """What it wrote last is in its size, whenever the store says that it has ended."""
    made = folder(tmp_path, "aaaa")

    def ends(_: str) -> bool:
        (made / "log").write_bytes(b"x" * 5000)
        written(made, LONG_AGO)
        return True

    folder_sizes(tmp_path, ends, NOW)

    assert sizes(tmp_path) == list(all_measured(tmp_path))


def test_a_run_that_has_just_ended_is_measured_again(tmp_path):
    """Its driver records the end after the store has it."""
    made = folder(tmp_path, "aaaa", at=NOW - 1)
    sizes(tmp_path)
    (made / "log").write_bytes(b"x" * 5000)
    written(made, NOW)

    assert sizes(tmp_path) == list(all_measured(tmp_path))


def test_a_folder_that_was_deleted_in_part_is_measured_again(tmp_path):
    made = folder(tmp_path, "aaaa")
    (made / "more").write_bytes(b"x" * 500)
    written(made, LONG_AGO)
    sizes(tmp_path)
    (made / "more").unlink()

    assert sizes(tmp_path) == list(all_measured(tmp_path))


@pytest.mark.parametrize("damaged", ["aaaa 12\n", "aaaa x 1.0\n", "\ufffd", "aaaa 1 2 3\n"])
def test_a_damaged_file_is_not_believed(tmp_path, damaged):
    """All are measured again, and kept again."""
    folder(tmp_path, "aaaa")
    sizes(tmp_path)
    (tmp_path / "run-sizes").write_text(damaged)

    assert sizes(tmp_path) == list(all_measured(tmp_path))
    assert (tmp_path / "run-sizes").read_text().count("\n") == 1


def test_sizes_of_deleted_folders_go(tmp_path):
    """The file stays about as long as there are folders."""
    kept = folder(tmp_path, "kept")
    for number in range(300):
        made = folder(tmp_path, f"{number}")
        sizes(tmp_path)
        (made / "log").unlink()
        made.rmdir()

    assert [found.run for found in sizes(tmp_path)] == [kept.name]
    assert len((tmp_path / "run-sizes").read_text().splitlines()) < 150
    assert list(tmp_path.glob(".run-sizes*")) == []


def test_without_folders_nothing_is_written(tmp_path):
    assert sizes(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_is_as_it_was_measured(tmp_path):
    """Times too, by which the oldest goes first."""
    folder(tmp_path, "aaaa", at=NOW - 100.123456789)
    measured = sizes(tmp_path)

    assert sizes(tmp_path) == measured
    assert isinstance(measured[0], FolderSize)
    assert measured[0].at > 0
