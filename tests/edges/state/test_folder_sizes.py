"""What the run folders take, without asking the disk for every file of every run before each build."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.state.folder_sizes import FolderSize, all_measured, folder_sizes
from coordinator.state.logs import runs_folder


def folder(state: Path, run: str, size: int = 1000) -> Path:
    made = runs_folder(state) / run
    made.mkdir(parents=True)
    (made / "log").write_bytes(b"x" * size)
    return made


def test_ended_runs_are_measured_once(tmp_path):
    """They no longer change: what changes all the same shows that they are not measured."""
    ended, going = folder(tmp_path, "aaaa"), folder(tmp_path, "bbbb")
    before = folder_sizes(tmp_path, lambda run: run == "aaaa")
    assert sorted(before) == sorted(all_measured(tmp_path))

    (ended / "more").write_bytes(b"x" * 500)
    (going / "more").write_bytes(b"x" * 500)
    after = {found.run: found.size for found in folder_sizes(tmp_path, lambda run: run == "aaaa")}

    assert after == {found.run: found.size + 500 * (found.run == "bbbb") for found in before}


@pytest.mark.parametrize("damaged", ["aaaa 12\n", "aaaa x 1.0\n", "\ufffd", "aaaa 1 2 3\n"])
def test_a_damaged_file_is_not_believed(tmp_path, damaged):
    """All are measured again, and kept again."""
    folder(tmp_path, "aaaa")
    folder_sizes(tmp_path, lambda _: True)
    (tmp_path / "run-sizes").write_text(damaged)

    assert folder_sizes(tmp_path, lambda _: True) == list(all_measured(tmp_path))
    assert (tmp_path / "run-sizes").read_text().count("\n") == 1


def test_sizes_of_deleted_folders_go(tmp_path):
    """The file stays about as long as there are folders."""
    kept = folder(tmp_path, "kept")
    for number in range(300):
        made = folder(tmp_path, f"{number}")
        folder_sizes(tmp_path, lambda _: True)
        (made / "log").unlink()
        made.rmdir()

    assert [found.run for found in folder_sizes(tmp_path, lambda _: True)] == [kept.name]
    assert len((tmp_path / "run-sizes").read_text().splitlines()) < 150
    assert list(tmp_path.glob(".run-sizes*")) == []


def test_without_folders_nothing_is_written(tmp_path):
    assert folder_sizes(tmp_path, lambda _: True) == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_is_as_it_was_measured(tmp_path):
    """Times too, by which the oldest goes first."""
    folder(tmp_path, "aaaa")
    measured = folder_sizes(tmp_path, lambda _: True)

    assert folder_sizes(tmp_path, lambda _: True) == measured
    assert isinstance(measured[0], FolderSize)
    assert measured[0].at > 0
