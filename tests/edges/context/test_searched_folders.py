"""Folders in which no wildcard matches: the client of Docker 20.10 needs them where another source has something."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from coordinator.context.tree import scan
from coordinator.domain.dockerfile.context_sources import context_use
from coordinator.domain.dockerfile.dockerignore import compile_ignore
from coordinator.domain.dockerfile.stages import parse
from coordinator.domain.image.platforms import parse as platform_of
from tests.edges.context import taken_corpus
from tests.edges.context.build_judge import before_buildx, build
from tests.edges.context.test_taken_judge import copied

AMD64 = platform_of("linux/amd64")


@pytest.mark.engine
@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("sources", "ignore"),
    [
        ("a d/*.zip", ""),
        ("a d/e/*.zip", ""),
        ("a empty/*", ""),
        ("a g/h/*/x", ""),
        ("a l-folder/*.zip", ""),
        ("a l-chain/*.zip", ""),
        ("src g/**/nope", ""),
        ("a d/x*/", ""),
        ("a src/*.go", "src/*.go"),
        ("a d/x*", "*\n!a\n!d"),
    ],
)
def test_a_folder_without_a_match_is_there(tmp_path: Path, sources: str, ignore: str):
    """What is taken builds to the image that the whole context builds to."""
    whole, ours = tmp_path / "whole", tmp_path / "ours"
    taken_corpus.plant(whole, tmp_path.name)
    dockerfile = f"FROM scratch\nCOPY {sources} /x/\n"
    use = context_use(parse(dockerfile), stage="", platform=AMD64, build_platforms=(AMD64,), build_args={}, configs={})
    copied(whole, ours, asyncio.run(scan(whole, compile_ignore(ignore), use)).entries)

    client = before_buildx()
    # First what is taken: the engine would have the steps of the other in its cache, and need no folder.
    made, theirs = (build(client, tmp_path, root, dockerfile, ignore) for root in (ours, whole))

    assert (made.error, made) == ("", theirs)
