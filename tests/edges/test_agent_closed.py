"""What the agent's user cannot open of a context is refused by name, whatever a builder would make of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from transfer_bed import Scripted

from agents import readable
from agents.context import receive
from agents.errors import AgentError
from agents.objects import Objects
from tests.services.missing import missing

_NOBODY = 65534


@contextmanager
def ordinary_login() -> Iterator[None]:
    """This process without root's right to open everything."""
    if os.geteuid():
        missing("root is needed, to be somebody else for a while")
    os.setegid(_NOBODY)
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of nobody's: pytest's own are root's alone."""
    with TemporaryDirectory() as made:
        os.chown(made, _NOBODY, _NOBODY)
        yield Path(made)


def fill(root: Path) -> None:
    (root / "shut" / "below").mkdir(parents=True)
    (root / "open").mkdir()
    for name in ("shut/below/file", "open/file", "top", "ü"):
        (root / name).write_text("x")
    (root / "away").symlink_to("/nonexistent")
    (root / "open/into").symlink_to("../shut")


@pytest.mark.parametrize(
    ("closed", "mode", "said"),
    [
        (
            "top",
            0o000,
            "'top' (mode 0000) of the context cannot be opened by nobody, the login here (Permission denied)",
        ),
        ("open/file", 0o222, "'open/file' (mode 0222)"),
        ("\u00fc", 0o000, r"'\xfc' (mode 0000)"),
        ("shut", 0o000, "'shut' (mode 0000)"),
        ("shut", 0o311, "'shut' (mode 0311)"),
        ("shut/below", 0o400, "'shut/below/file' (below a folder that is closed)"),
    ],
)
def test_what_is_closed_to_us_is_named_with_the_cure(home: Path, closed: str, mode: int, said: str):
    """A file, a folder whose names or whose files are closed, at any depth."""
    with ordinary_login():
        fill(home)
        readable.prove(os.fsencode(home))
        (home / closed).chmod(mode)
        with pytest.raises(AgentError) as refused:
            readable.prove(os.fsencode(home))
        (home / closed).chmod(0o700)

    assert refused.value.code == "unreadable"
    assert said in refused.value.message
    for cure in ("chmod u+r", "as root", ".dockerignore"):
        assert cure in refused.value.message


def test_several_are_counted(home: Path):
    """The first is named: the rest may be thousands."""
    with ordinary_login():
        fill(home)
        for name in ("top", "open/file"):
            (home / name).chmod(0)
        with pytest.raises(AgentError, match=r"\(mode 0000\) and 1 more of the context"):
            readable.prove(os.fsencode(home))


def test_root_opens_everything(home: Path):
    """Whose builds take the files as they are."""
    fill(home)
    (home / "shut").chmod(0)
    (home / "top").chmod(0)

    readable.prove(os.fsencode(home))


def test_a_context_that_is_closed_to_us_does_not_arrive(home: Path):
    """No context, no rest of it, and the next one comes as if nothing had been."""
    there = Scripted()
    with ordinary_login():
        objects = Objects(home / "state")
        for mode, arrives in ((0o000, False), (0o600, True)):
            there.offer(there.folder(there.below("etc", there.file("shadow", b"x" * 19, mode))), 2)
            if arrives:
                receive(home, there, there.say, objects)
            else:
                with pytest.raises(AgentError, match=r"'etc/shadow' \(mode 0000\)"):
                    receive(home, there, there.say, objects)
                assert not list(home.glob("context*/*"))
        objects.close()

    assert (home / "context/etc/shadow").read_bytes() == b"x" * 19
