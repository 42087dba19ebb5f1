"""What of a context cannot be read is named at once, with commands that do what they say."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from coordinator.context.tree import EVERYTHING, scan
from coordinator.context.unreadable_entries import ignore_pattern
from coordinator.domain.dockerfile.context_sources import ContextUse
from coordinator.domain.dockerfile.dockerignore import Matcher, compile_ignore
from coordinator.domain.visible import visible_name
from coordinator.errors import UsageError
from tests.edges.context.test_selection import source, use
from tests.services.commands import run_limited

ALL = compile_ignore("")
NOBODY = 65534


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root reads everything, so it steps aside."""
    user = os.geteuid()
    os.seteuid(user or NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def root() -> Iterator[Path]:
    """Not below pytest's folder, which nobody but its owner may enter."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def close(root: Path, *names: str, owner: int = NOBODY) -> None:
    """Make files, and folders for names that end in a slash, that nobody may read."""
    for name in names:
        (root / name).mkdir() if name.endswith("/") else (root / name).write_text("x")
        (root / name).chmod(0)
        if os.geteuid() == 0:
            os.chown(root / name, owner, owner)


async def refused(root: Path, use: ContextUse = EVERYTHING, ignore: Matcher = ALL) -> UsageError:
    # A first thread loads modules, which may lie where only root reads.
    await asyncio.to_thread(int)
    with unprivileged(), pytest.raises(UsageError) as caught:
        await scan(root, ignore, use)
    return caught.value


def ignored_after(hint: str, file: Path) -> Collection[str]:
    """Run the hint's last line in two shells, each with an ignore file of its own; return what each has then."""
    command = hint.splitlines()[-1].partition(" out: ")[2]
    before = file.read_text() if file.exists() else ""
    written = []
    for shell in ("sh", "bash"):
        file.write_text(before)
        run_limited([shell, "-c", command], check=True)
        written.append(file.read_text())
    return written


@pytest.mark.parametrize(
    "name",
    [
        "secret",
        "closed/",
        "it's $(rm x)",
        "-n",
        "#1",
        "!a",
        " a",
        "a ",
        "[a]",
        "a\\b",
        "a*?^",
        '"q"',
        "~",
        "]",
        "caf\u00e9",
    ],
)
@pytest.mark.parametrize("before", ["", "other\n", "other"])
async def test_the_command_ignores_what_cannot_be_read(root: Path, name: str, before: str):
    """And nothing else, in any shell, whether the file in force ends in a line end or not."""
    close(root, name)
    path = name.rstrip("/")
    file = root / "else.dockerignore"
    if before:
        file.write_text(before)

    error = await refused(root, ignore=compile_ignore(before, str(file)))

    assert error.message == f"cannot read {visible_name(path)} in the context: Permission denied"
    make, _ = error.hint.splitlines()
    assert make.startswith("make it readable: chmod u+rX ")
    for text in ignored_after(error.hint, file):
        rules = compile_ignore(text)
        assert rules.ignores(path)
        assert rules.ignores("other") is bool(before)
        assert not rules.ignores("b")


@pytest.mark.parametrize("name", ["two\nlines", "\udce9", "a\tb"])
async def test_a_name_that_no_command_can_have_is_told_in_words(root: Path, name: str):
    close(root, name)

    make, ignore = (await refused(root)).hint.splitlines()

    assert make == "make it readable: chmod u+rX FILE"
    assert ignore == f"or rename {visible_name(name)}: no line of .dockerignore can be printed for it"


@pytest.mark.skipif(os.geteuid() != 0, reason="makes files of two users")
@pytest.mark.parametrize(("name", "mode"), [("data/", 0o700), ("key", 0o600)])
async def test_what_belongs_to_another_user_is_made_readable_by_its_owner(root: Path, name: str, mode: int):
    """Its own mode lets its owner read it already, and this user may not change it."""
    close(root, name, owner=0)
    (root / name).chmod(mode)

    assert (await refused(root)).hint.splitlines()[
        0
    ] == f"it belongs to root: sudo chmod a+rX {root}/{name.rstrip('/')}"


async def test_what_an_instruction_names_is_not_to_be_ignored(root: Path):
    """The build would miss it then: neither the file, nor the folder that leads to it."""
    close(root, "secret", "d/", "other")
    named = ContextUse(sources=use(source("secret"), source("other*")).sources, everything="Dockerfile:2: COPY . .")

    everything = await refused(root, named)
    below = await refused(root, use("d/x"))

    assert everything.hint.splitlines()[-1] == f"or leave them out: printf '%s\\n' d other >> {root}/.dockerignore"
    assert below.hint == f"make it readable: chmod u+rX {root}/d"


async def test_all_that_cannot_be_read_is_named_at_once(root: Path):
    """The first ten, and how many more there are."""
    close(root, *(f"f{number:02}" for number in range(8)), *(f"g{number:02}/" for number in range(6)))
    (root / "open").write_text("x")

    error = await refused(root)

    first, *others, more = error.message.splitlines()
    assert (first, len(others), more) == ("cannot read f00 in the context: Permission denied", 9, "and 4 more")
    assert error.hint.splitlines()[-1] == f"all of them: find {root} ! -readable"
    assert "chmod u+rX" in error.hint


def test_a_pattern_has_its_characters_for_themselves():
    """The backslash is what `.dockerignore` has for that."""
    assert [ignore_pattern(path) for path in ("a*", "#a", "d/[x]", " a ")] == ["a\\*", "\\#a", "d/\\[x\\]", "\\ a[ ]"]


async def test_what_is_not_taken_need_not_be_readable(root: Path):
    """Neither beside a source, nor in an ignored folder of which something might be taken."""
    close(root, "secret", "closed/", "ignored/")
    (root / "open").write_text("y")
    await asyncio.to_thread(int)
    with unprivileged():
        beside = await scan(root, ALL, use("open"))
        ignored = await scan(root, compile_ignore("secret\nclosed\nignored\n!ignored/x"))

    assert [entry.path for entry in beside.entries] == ["open"]
    assert [entry.path for entry in ignored.entries] == ["open"]
