"""The real `docker build` judges the selection: from what a scan takes it makes what it makes of the whole folder."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coordinator.context.offer import ContextOffer
from coordinator.context.tree import ContextManifest, scan
from coordinator.domain.dockerfile.context_sources import context_use
from coordinator.domain.dockerfile.dockerignore import compile_ignore
from coordinator.domain.dockerfile.stages import parse
from coordinator.domain.image import platforms
from coordinator.domain.inputs.build_id import EntryKind
from coordinator.errors import UsageError
from tests.edges.context.build_judge import Built, Client, before_buildx, build, buildx
from tests.edges.context.test_selection import plant

AMD64 = platforms.parse("linux/amd64")

TREE = (
    *("real/x", "real/sub/y", "real/sub/in -> ../x", "link -> real", "abs -> /real/sub", "out -> ../../real/x"),
    *("chain -> link/sub", "dir/inner -> ../real", "dir/file", "dangling -> nowhere", "loop -> loop", "empty/"),
    *(
        "far/l -> /link/../far/t",
        "far/t",
        "up -> .",
        "a1/x.c",
        "a1/y.h",
        "a2/x.c",
        ".hid",
        "[z]",
        "k -> a1",
        "kk -> a1",
    ),
    *(
        "w -> a*",
        "a*/lit",
        "t/deep/x.c",
        "hidden/x",
        "hidden/y",
        "to-hidden -> hidden",
        "gone -> real",
        "part/x",
        "part/y",
    ),
)
IGNORE = "hidden\ngone\npart\n!part/x\n"
SOURCES = (
    *(
        "real",
        "real/x",
        "link",
        "link/x",
        "link/sub/y",
        "abs",
        "out",
        "chain",
        "chain/y",
        "dir",
        "dangling",
        "loop",
        "empty",
    ),
    *(
        "far/l",
        "up",
        "up/real",
        "a*/x.c",
        "a?",
        "?",
        "*",
        "[[]z]",
        "k*",
        "k*/x.c",
        "*/sub",
        "w",
        "t/*",
        "t[^.]*",
        "no*",
    ),
    *("hidden", "hidden/x", "to-hidden", "gone", "gone/x", "part", "part/x", "part/y", "real/x/y", "zzz", "dir/inner"),
    *("dir/inner/x", "*/inner", "real/sub/in", "link/sub/in", "link/x link/sub", "a\\*/lit", "a[*]/lit"),
)
# 20.10 walks into `real/x/sub`, where x is a file, and gives up. What the transfer leaves out is what it stumbles over.
MADE_BY_US_ALONE = {"*/sub"}
EVERY = pytest.param(1, marks=pytest.mark.slow)


@pytest.mark.engine
@pytest.mark.parametrize("every", [8, EVERY])
@pytest.mark.parametrize("client", [buildx, before_buildx])
def test_docker_build_agrees(tmp_path: Path, engine: Path, client, every: int):
    """The same files, or no build from either; and a source is refused only where `docker build` refuses it."""
    chosen = client(tmp_path) if client is buildx else client()

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda one: judge(chosen, *one, tmp_path), list(enumerate(SOURCES))[::every]))

    assert [result for result in results if result] == []


def judge(client: Client, number: int, text: str, place: Path) -> str:
    """What is wrong with the selection of this source; empty where nothing is."""
    folder = place / f"case-{number}"
    # The engine keeps what it has from folders of one base name.
    whole, taken = folder / f"whole-{number}", folder / f"taken-{number}"
    for path in (whole, taken):
        path.mkdir(parents=True)
    plant(whole, *TREE)
    dockerfile = f"FROM scratch\nCOPY {text} /to/\n"
    right = build(client, folder, whole, dockerfile, IGNORE)
    use = context_use(parse(dockerfile), stage="", platform=AMD64, build_platforms=[AMD64], build_args={}, configs={})
    try:
        manifest = asyncio.run(scan(whole, compile_ignore(IGNORE), use))
    except UsageError as error:
        return "" if right.error else f"{text}: refused: {error.message}; docker build: {right}"
    lay_out(manifest, taken)
    built = build(client, folder, taken, dockerfile)
    return "" if same(built, right) or text in MADE_BY_US_ALONE else f"{text}: {built} is not {right}"


def same(one: Built, other: Built) -> bool:
    return one.files == other.files and bool(one.error) == bool(other.error)


def lay_out(manifest: ContextManifest, folder: Path) -> None:
    """What a host has after the transfer."""
    offered = ContextOffer(manifest)
    for entry in manifest.entries:
        path = folder / entry.path
        match entry.kind:
            case EntryKind.DIRECTORY:
                path.mkdir()
            case EntryKind.SYMLINK:
                path.symlink_to(entry.link)
            case EntryKind.FILE:
                path.write_bytes(b"".join(offered.content(entry.digest)))
