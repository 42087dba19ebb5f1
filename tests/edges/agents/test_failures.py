"""What the agent answers where an operation raised: a full disk is named by the folder that had no room."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from agents.base.disk import Room, room_for, shortage_text
from agents.base.errors import AgentError
from agents.base.failures import explain
from agents.server import cli


def no_space(number: int = errno.ENOSPC, name: str | bytes | int | None = None) -> OSError:
    return OSError(number, os.strerror(number), name)


def test_a_full_disk_is_answered_also_where_its_folder_cannot_be_examined(tmp_path: Path):
    """The answer must not fail: without one, the coordinator waits for ever. A path too long stands for ESTALE."""
    unreadable = tmp_path / ("a" * 5000)

    answer = explain(no_space(), unreadable)

    assert (answer.code, answer.message) == ("disk", f"[Errno {errno.ENOSPC}] No space left on device")
    assert answer.detail == {"free": 0}


def test_a_full_disk_is_told_with_what_is_free(tmp_path: Path):
    """For a folder that does not exist yet, that is the room of the nearest one above it."""
    answer = explain(no_space(), tmp_path / "none/below")

    assert answer.message.startswith(f"too little space below {tmp_path / 'none/below'}: ")
    assert answer.message.endswith(" MiB free")
    assert answer.detail["free"] > 0


@pytest.mark.parametrize("encode", [str, os.fsencode])
def test_the_folder_is_that_of_the_file_that_could_not_be_written(tmp_path: Path, encode):
    """The full disk may be that of /tmp or /run/lock, and not that of the state folder."""
    answer = explain(no_space(name=encode(tmp_path / "locks/slot")), Path("/proc"))

    assert f"below {tmp_path / 'locks'}: " in answer.message


@pytest.mark.parametrize("name", [None, "name-in-an-open-folder", 7])
def test_a_file_without_a_path_is_one_of_the_state_folder(tmp_path: Path, name):
    """Contexts are written by the descriptors of their folders: only the last name is known then."""
    assert f"below {tmp_path}: " in explain(no_space(name=name), tmp_path).message


def test_a_quota_that_is_used_up_is_named(tmp_path: Path):
    """The disk itself may have gigabytes free then."""
    assert explain(no_space(errno.EDQUOT), tmp_path).message.endswith(f" MiB free ({os.strerror(errno.EDQUOT)})")


def test_other_errors_keep_their_words(tmp_path: Path):
    """They are no full disk."""
    known = AgentError("busy", "another job runs")

    assert explain(known, tmp_path) is known
    assert explain(no_space(errno.EIO), tmp_path).code == "internal"


def test_a_read_only_disk_is_told_with_its_folder(tmp_path: Path):
    """Of the file that the error names; else of the caller."""
    named = explain(no_space(errno.EROFS, str(tmp_path / "jobs/x")), tmp_path)

    assert (named.code, named.message) == ("read_only", f"the file system of {tmp_path / 'jobs'} is read-only")
    assert explain(no_space(errno.EROFS), tmp_path).message == f"the file system of {tmp_path} is read-only"


def test_the_command_line_names_the_folder_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """An agent that does not start has no other way to say why."""

    def operations() -> cli.Operations:
        raise no_space(name=str(tmp_path / "locks/slot"))

    assert cli.run(["serve"], operations) == 1
    assert capsys.readouterr().err.startswith(f"archloom-agent: too little space below {tmp_path / 'locks'}: ")


def test_a_shortage_is_told_in_the_same_words_everywhere():
    """In MiB, or as inodes; with what was needed where that is known."""
    room = Room("/x", (3 << 20) - 1, 5000)

    assert shortage_text(room) == "too little space below /x: 2 MiB free"
    assert shortage_text(room, 5 << 20) == "too little space below /x: 2 MiB free, 5 MiB needed"
    assert shortage_text(room._replace(inodes=0), 5 << 20) == "no file names (inodes) left below /x"


def test_the_room_for_a_folder_is_unknown_where_a_folder_above_it_is(tmp_path: Path):
    """Another disk's room would mislead."""
    assert room_for(str(tmp_path / ("a" * 5000) / "below")) is None
