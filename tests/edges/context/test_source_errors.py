"""A source that no build can take is refused before a board is touched, with its line and what to do."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.context.tree import scan
from coordinator.domain.dockerfile.context_sources import ContextUse, Wildcard
from coordinator.domain.dockerfile.dockerignore import compile_ignore
from coordinator.errors import Exit, UsageError
from tests.edges.context.test_selection import plant, source, use


async def refused(root: Path, sources: ContextUse, ignore: str = "", own: tuple[Path, ...] = ()) -> UsageError:
    with pytest.raises(UsageError) as caught:
        await scan(root, compile_ignore(ignore), sources, own=own, dockerfile="docker/Dockerfile")
    assert caught.value.exit_code is Exit.USAGE
    return caught.value


def required(*paths: str) -> ContextUse:
    return use(*(source(path, required=True, line=line) for line, path in enumerate(paths, 3)))


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("src/mian.c", "did you mean src/main.c?"),
        ("SRC/main.c", "did you mean src/main.c?"),
        ("scr", "did you mean src?"),
        ("src/main.c/x", "src/main.c/x is looked up in the context, "),
        ("zzz", "zzz is looked up in the context, "),
        ("requirements.txt", "requirements.txt is looked up in the context, "),
        ("link/x", "inside the context only: link -> nowhere leads to nowhere/x in the context, which does not exist"),
        ("abs", "inside the context only: abs -> /zz/x leads to zz/x in the context, which does not exist"),
        ("hidden", "hidden is excluded by .dockerignore:2"),
        ("hidden/x", "hidden/x is excluded by .dockerignore:2"),
        ("to-hidden", "hidden is excluded by .dockerignore:2"),
        ("gone-link", "gone-link is excluded by .dockerignore:3"),
        ("own", "own is a file of archloom's own"),
    ],
)
async def test_what_is_missing_is_named(tmp_path: Path, path: str, hint: str):
    """In BuildKit's words, with the likeliest cause."""
    plant(
        tmp_path,
        "src/main.c",
        "link -> nowhere",
        "abs -> /zz/x",
        "hidden/x",
        "to-hidden -> hidden",
        "gone-link -> src",
        "own",
        "environment.txt",
    )

    error = await refused(tmp_path, required(path), "# rules\nhidden\ngone-link", (tmp_path / "own",))

    assert error.message == f'docker/Dockerfile:3: "/{path}": not found in the context {tmp_path}'
    assert hint in error.hint


@pytest.mark.parametrize("text", ["--mount=type=bind,source=xyz,target=/m", "x$S", "./xyz"])
async def test_the_path_is_named_that_is_looked_up(tmp_path: Path, text: str):
    """Not the instruction, nor a variable whose value is not seen."""
    plant(tmp_path, "a")
    missing = replace(source("xyz", required=True), text=text)

    assert (await refused(tmp_path, use(missing))).hint == f"xyz is looked up in the context, {tmp_path}"


async def test_all_that_is_missing_is_named_at_once(tmp_path: Path):
    """In the order of the lines."""
    plant(tmp_path, "b")

    error = await refused(tmp_path, required("a", "b", "c"))

    assert error.message == (
        f'docker/Dockerfile:3: "/a": not found in the context {tmp_path}\n'
        f'docker/Dockerfile:5: "/c": not found in the context {tmp_path}'
    )


async def test_what_need_not_exist_may_be_missing(tmp_path: Path):
    """Not required, and with wildcards."""
    plant(tmp_path, "a", "loop -> loop", "up -> .", "d/x")
    go = source("no*", Wildcard.GO, required=False)

    await scan(tmp_path, compile_ignore(""), use("zzz", "loop", go, source("a", required=True)))
    await scan(tmp_path, compile_ignore("d\n!d/x"), required("up", "d", "d/x"))


@pytest.mark.parametrize("path", ["loop", "loop/x", "one", "absolute"])
async def test_links_in_a_circle_are_named(tmp_path: Path, path: str):
    """In BuildKit's words."""
    plant(tmp_path, "loop -> loop", "one -> two", "two -> one", "absolute -> /absolute/x")

    error = await refused(tmp_path, required(path))

    assert error.message == f'docker/Dockerfile:3: "/{path}": too many links'
    assert f"the symbolic links of {path} lead in a circle" in error.hint


async def test_a_name_is_shown_on_one_line(tmp_path: Path):
    """With its bytes, and nothing that a terminal obeys."""
    (tmp_path / os.fsdecode(b"m\xe9n\x1b[31mu")).touch()

    error = await refused(tmp_path, required("m\udce9n\x1b[31mv\n"))

    assert error.message == rf'docker/Dockerfile:3: "/m\xe9n\x1b[31mv\n": not found in the context {tmp_path}'
    assert error.hint == r"did you mean m\xe9n\x1b[31mu?"


async def test_a_missing_source_is_missing_where_everything_is_taken(tmp_path: Path):
    """Another line takes the whole context."""
    plant(tmp_path, "a")
    sources = ContextUse(sources=required("a", "b").sources, everything="Dockerfile:2: COPY . .")

    assert '4: "/b": not found' in (await refused(tmp_path, sources)).message


@pytest.mark.parametrize("path", ["pipe", "link"])
async def test_a_pipe_that_a_source_names_is_refused(tmp_path: Path, path: str):
    """Its content is nowhere; below a copied folder it is only said to be left out."""
    plant(tmp_path, "d/file", "link -> pipe")
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "d/pipe")

    error = await refused(tmp_path, use(path))

    assert error.message.startswith(f'docker/Dockerfile:3: "/{path}" is a named pipe')
    assert "copy a regular file" in error.hint
    manifest = await scan(tmp_path, compile_ignore(""), use("d", source("p*", Wildcard.GO)))
    assert manifest.skipped == ("d/pipe", "pipe")


async def test_a_socket_that_a_source_names_is_an_empty_file(tmp_path: Path, unix_socket: str):
    """As in every image of BuildKit's."""
    manifest = await scan(tmp_path, compile_ignore(""), required(unix_socket))

    assert [(entry.path, entry.size) for entry in manifest.entries] == [(unix_socket, 0)]


@pytest.fixture
def unix_socket(tmp_path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "sock"))
    return "sock"
