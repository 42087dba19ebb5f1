"""What the agent's user cannot open of a context is built all the same, or refused by name before it is sent."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.base import user_namespace
from agents.base.closed_files import opened, walk
from agents.base.errors import AgentError
from agents.context.cache import Objects
from agents.context.receive import receive
from agents.context.transfer import Received
from agents.job import closed_context
from agents.job.closed_context import Access
from tests.edges.agents.login_bed import NOBODY, home_of_nobody, ordinary_login
from tests.edges.agents.transfer_bed import Scripted
from tests.services.commands import run_limited


@pytest.fixture
def home() -> Iterator[Path]:
    with home_of_nobody() as made:
        yield made


def arrive(
    there: Scripted, home: Path, root: str, entries: int, engine: str = "docker", *, apart: bool = True
) -> Received:
    """A context for a job of this engine. `apart`: its Dockerfile must not be in an archive."""
    wanted = {
        "format": 1, "platform": "linux/amd64", "engine": engine, "dockerfile": "FROM scratch", "stage": "",
        "dockerfile_path": "Dockerfile", "dockerfile_apart": apart, "build_args": {}, "labels": {}, "no_cache": False,
        "image": "archloom/7f3a:amd64-1", "bases": [],
    }  # fmt: skip
    (home / "spec.json").write_text(json.dumps(wanted))
    there.offer(root, entries)
    objects = Objects(home / "state")
    try:
        return receive(home, "0" * 32, there, there.say, objects)
    finally:
        objects.close()


@pytest.fixture
def foreign_group(home: Path) -> None:
    """What is made at home belongs to a group that is not the login's: no namespace opens it."""
    os.chown(home, NOBODY, NOBODY - 1)
    home.chmod(0o2700)


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
@pytest.mark.usefixtures("foreign_group")
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
    for cure in ("chmod u+r", ".dockerignore", "root", "namespaces"):
        assert cure in refused.value.message
    assert [asked["want"] for asked in there.asked] == ["folders", "folders"]
    assert (home / "context/etc" / name).read_bytes() == b"x"


@pytest.mark.usefixtures("foreign_group")
def test_what_the_host_has_already_is_refused_too(home: Path):
    """Contents that lie in the store are taken from there, and would be as closed."""
    there, again = Scripted(), Scripted()
    with ordinary_login():
        arrive(there, home, there.folder(there.file("key", b"x" * 99, 0o600)), 1)
        with pytest.raises(AgentError, match=r"'key' \(mode 0200\)"):
            arrive(again, home, again.folder(again.file("key", b"x" * 99, 0o200)), 1)


@pytest.mark.usefixtures("foreign_group")
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
    assert closed_context.read(home) is None


def sent_closed(there: Scripted) -> str:
    return there.folder(there.below("etc", there.file("shadow", b"secret", 0), mode=0o311))


@pytest.mark.parametrize("engine", ["docker", "buildx"])
def test_a_namespace_opens_what_is_closed(home: Path, engine: str):
    """It is tried on this host, and leaves nothing. A program in it reads all, as the user it is outside."""
    there = Scripted()

    with ordinary_login():
        arrive(there, home, sent_closed(there), 2, engine)
        access = closed_context.read(home)
        shadow = home / "context/etc/shadow"
        command = f"cat {shadow}; stat -c ' %a %u' {shadow}; stat -c %a {shadow.parent}"
        read = run_limited(["sh", "-c", command], preexec_fn=user_namespace.entering(), capture_output=True)

    assert access is Access.NAMESPACE
    assert read.stdout.split() == [b"secret", b"0", b"0", b"311"], read.stderr
    assert not list(home.glob(".closed*"))


@pytest.mark.usefixtures("foreign_group")
def test_without_a_namespace_it_is_an_archive_that_has_it(home: Path):
    """Where the Dockerfile may be among the files of the context."""
    there = Scripted()

    with ordinary_login():
        arrive(there, home, sent_closed(there), 2, apart=False)

    assert closed_context.read(home) is Access.ARCHIVE


def test_the_engine_api_needs_no_namespace(home: Path):
    there = Scripted()

    with ordinary_login():
        arrive(there, home, sent_closed(there), 2, "api")

    assert closed_context.read(home) is Access.ARCHIVE


def test_an_open_context_after_a_closed_one_is_read_as_ever(home: Path):
    """What was recorded is of the context that is there."""
    there, again = Scripted(), Scripted()

    with ordinary_login():
        arrive(there, home, sent_closed(there), 2)
        arrive(again, home, again.folder(again.file("shadow", b"secret", 0o644)), 1)

    assert closed_context.read(home) is None


def test_a_closed_tree_is_read_and_is_closed_again(home: Path):
    """Every entry with the mode that it has, whether all of it is read or not."""
    there = Scripted()

    with ordinary_login():
        arrive(
            there, home, there.folder(there.below("etc", there.below("x", there.file("f", b"1", 0), mode=0), mode=0)), 3
        )
        found = {}
        for path, relative, status in walk(home / "context"):
            content = b""
            if stat.S_ISREG(status.st_mode):
                with opened(path) as file:
                    content = file.read()
            found[relative] = stat.S_IMODE(status.st_mode), content
        for _, relative, _ in walk(home / "context"):
            if relative == b"etc/x/f":
                break

    assert found == {b"etc": (0, b""), b"etc/x": (0, b""), b"etc/x/f": (0, b"1")}
    paths = ("etc", "etc/x", "etc/x/f")
    assert [stat.S_IMODE((home / "context" / path).stat().st_mode) for path in paths] == [0, 0, 0]


def test_modes_that_a_killed_build_left_are_not_relied_on(home: Path):
    """A build that sends an archive opens what is closed, and may have no time to close it."""
    there, again = Scripted(), Scripted()

    with ordinary_login():
        arrive(there, home, sent_closed(there), 2, "api")
        for path in ("etc", "etc/shadow"):
            (home / "context" / path).chmod(0o700)
        arrive(again, home, sent_closed(again), 2, "api")
        (home / "context/etc").chmod(0o700)

    assert stat.S_IMODE((home / "context/etc/shadow").stat().st_mode) == 0
