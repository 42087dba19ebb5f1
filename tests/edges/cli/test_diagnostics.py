"""`-v`, `-vv` and ARCHLOOM_LOG: who wants diagnostics gets them, and nobody else."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from coordinator.cli import diagnostics
from coordinator.errors import UsageError


@pytest.fixture(autouse=True)
def quiet_again() -> Iterator[None]:
    yield
    logger = logging.getLogger("archloom")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


@pytest.mark.parametrize(
    ("words", "left", "verbosity"),
    [
        (["build", "."], ["build", "."], 0),
        (["-v", "build", "."], ["build", "."], 1),
        (["build", ".", "-vv"], ["build", "."], 2),
        (["build", "--verbose", ".", "-v"], ["build", "."], 2),
        (["build", "--", "-v"], ["build", "--", "-v"], 0),
    ],
)
def test_the_flags_may_stand_anywhere_before_two_dashes(words, left, verbosity):
    assert diagnostics.take_flags(words) == (left, verbosity)


def log_all() -> None:
    logging.getLogger("archloom.ssh").info("pi4: connected")
    logging.getLogger("archloom.registry").debug("GET http://nas.lan/v2/: 200")


@pytest.mark.parametrize(("verbosity", "lines"), [(0, []), (1, ["ssh"]), (2, ["ssh", "registry"])])
def test_the_terminal_gets_what_was_asked_for(verbosity, lines, capsys):
    diagnostics.start(verbosity, {})
    log_all()

    shown = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in shown] == lines
    assert diagnostics.is_shown() is (verbosity > 0)


def test_the_file_gets_all_of_it_and_is_its_owner_s(tmp_path: Path, capsys):
    """Appended to, so that several commands of one script share it."""
    file = tmp_path / "archloom.log"
    file.write_text("before\n")
    file.chmod(0o600)
    diagnostics.start(0, {"ARCHLOOM_LOG": str(file)})
    log_all()

    assert [line.split()[1:2] for line in file.read_text().splitlines()] == [[], ["ssh"], ["registry"]]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert capsys.readouterr().err == ""
    assert not diagnostics.is_shown()


def test_a_file_that_cannot_be_written_is_an_error_before_anything_is_done(tmp_path: Path):
    with pytest.raises(UsageError, match=r"ARCHLOOM_LOG: cannot write .*: No such file or directory"):
        diagnostics.start(0, {"ARCHLOOM_LOG": str(tmp_path / "no" / "log")})


def test_a_process_that_has_closed_every_descriptor_goes_on_in_the_file(tmp_path: Path):
    """`--detach` closes what it inherits; the number of the log's descriptor then belongs to another file."""
    file, other = tmp_path / "archloom.log", tmp_path / "other"
    diagnostics.start(0, {"ARCHLOOM_LOG": str(file)})
    log_all()
    [handler] = logging.getLogger("archloom").handlers
    assert isinstance(handler, logging.FileHandler)
    descriptor = handler.stream.fileno()

    diagnostics.close_files()
    with suppress(OSError):
        os.close(descriptor)
    with other.open("wb") as taken:
        assert taken.fileno() == descriptor
        log_all()
        taken.flush()

    assert len(file.read_text().splitlines()) == 4
    assert other.read_bytes() == b""


def test_a_log_on_a_full_disk_ends_with_one_warning(capsys):
    diagnostics.start(0, {"ARCHLOOM_LOG": "/dev/full"})

    log_all()
    log_all()

    [warning] = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: ARCHLOOM_LOG: cannot write /dev/full: [Errno 28] No space left on device")
