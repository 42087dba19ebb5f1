"""What the agent's user could not open of a context is refused by name, before a byte of it is sent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from agents.base.errors import AgentError
from agents.context.cache import Objects
from agents.context.receive import receive
from agents.context.transfer import Received
from tests.edges.agents.transfer_bed import Scripted
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


def arrive(there: Scripted, home: Path, root: str, entries: int) -> Received:
    there.offer(root, entries)
    objects = Objects(home / "state")
    try:
        return receive(home, there, there.say, objects)
    finally:
        objects.close()


@pytest.mark.parametrize(
    ("name", "mode", "folder_mode", "said"),
    [
        ("shadow", 0o000, 0o755, "'etc/shadow' (mode 0000) of the context cannot be opened by nobody, the login there"),
        ("shadow", 0o222, 0o755, "'etc/shadow' (mode 0222)"),
        ("ü", 0o044, 0o755, "'etc/ü' (mode 0044)"),
        ("shadow", 0o644, 0o000, "'etc' (mode 0000)"),
        ("shadow", 0o644, 0o311, "'etc' (mode 0311)"),
        ("shadow", 0o644, 0o655, "'etc' (mode 0655)"),
        ("shadow", 0o000, 0o311, "'etc' (mode 0311), 'etc/shadow' (mode 0000) of the context"),
    ],
)
def test_what_would_be_closed_to_us_is_named_with_the_cure(
    home: Path, name: str, mode: int, folder_mode: int, said: str
):
    """No file is asked for; no context is left, nor a rest of it, and the next one comes as if nothing had been."""
    there, cured = Scripted(), Scripted()
    with ordinary_login():
        with pytest.raises(AgentError) as refused:
            arrive(there, home, there.folder(there.below("etc", there.file(name, b"x", mode), mode=folder_mode)), 2)
        assert not list(home.glob("context*/*"))
        arrive(cured, home, cured.folder(cured.below("etc", cured.file(name, b"x", 0o600), mode=0o700)), 2)

    assert refused.value.code == "unreadable"
    assert said in refused.value.message
    for cure in ("chmod u+r", ".dockerignore", "root"):
        assert cure in refused.value.message
    assert [asked["want"] for asked in there.asked] == ["folders", "folders"]
    assert (home / "context/etc" / name).read_bytes() == b"x"


def test_what_the_host_has_already_is_refused_too(home: Path):
    """Contents that lie in the store are taken from there, and would be as closed."""
    there, again = Scripted(), Scripted()
    with ordinary_login():
        arrive(there, home, there.folder(there.file("key", b"x" * 99, 0o600)), 1)
        with pytest.raises(AgentError, match=r"'key' \(mode 0200\)"):
            arrive(again, home, again.folder(again.file("key", b"x" * 99, 0o200)), 1)


def test_many_are_counted(home: Path):
    """The first five are named."""
    there = Scripted()
    root = there.folder(*(there.file(f"f{number}", b"x", 0) for number in range(7)))

    with ordinary_login(), pytest.raises(AgentError, match=r"'f0' \(mode 0000\), .*'f4' \(mode 0000\) and 2 more of"):
        arrive(there, home, root, 7)


def test_root_takes_everything(home: Path):
    """Modes do not keep it from its files, nor its builds."""
    there = Scripted()

    arrive(there, home, there.folder(there.below("etc", there.file("shadow", b"x", 0), mode=0)), 2)

    assert (home / "context/etc/shadow").read_bytes() == b"x"
