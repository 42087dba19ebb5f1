"""The real `docker build` says what a `.dockerignore` sends; the scan has to send the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coordinator.context.tree import scan
from coordinator.domain.dockerfile.dockerignore import compile_ignore
from coordinator.domain.inputs.build_id import EntryKind
from coordinator.errors import UsageError
from tests.edges.context.build_judge import Client, before_buildx, build, buildx
from tests.unit.dockerfile import ignore_corpus
from tests.unit.dockerfile.ignore_corpus import CASES, Case

REFUSED = ("refused",)
# A build takes most of a second, so all of the corpus is for the slow tier.
ALL = pytest.param(1, marks=pytest.mark.slow)


@pytest.mark.engine
@pytest.mark.parametrize("every", [2, ALL])
def test_buildx_agrees(tmp_path: Path, engine: Path, every: int):
    """The rules of Docker 23 and later."""
    cases = CASES[::every]

    assert {case.ignore: expected(case) for case in cases} == judged(buildx(tmp_path), cases, tmp_path)


@pytest.mark.engine
@pytest.mark.parametrize("every", [4, ALL])
def test_the_client_before_buildx_agrees(tmp_path: Path, engine: Path, every: int):
    """The 20.10 client of Debian and Ubuntu, where its rules are not known to differ."""
    client = before_buildx()
    cases = tuple(case for case in CASES if case.docker <= client.version)[::every]

    assert {case.ignore: expected(case) for case in cases} == judged(client, cases, tmp_path)


async def test_the_scan_agrees(tmp_path: Path):
    """What the judges were shown is what a scan of the same tree finds."""
    ignore_corpus.build(tmp_path)

    for case in CASES:
        try:
            manifest = await scan(tmp_path, compile_ignore(case.ignore))
        except UsageError:
            assert case.refused
            continue
        found = [entry.path + ("/" if entry.kind is EntryKind.DIRECTORY else "") for entry in manifest.entries]
        assert (case.ignore, expected(case)) == (case.ignore, tuple(sorted(found)))


def expected(case: Case) -> tuple[str, ...]:
    return REFUSED if case.refused else tuple(sorted(case.sent))


def judged(client: Client, cases: tuple[Case, ...], tmp_path: Path) -> dict[str, tuple[str, ...]]:
    def listing(numbered: tuple[int, Case]) -> tuple[str, ...]:
        number, case = numbered
        # A tree for each: the engine takes one context after the other where they come from the same folder.
        folder = tmp_path / f"case-{number}"
        tree = folder / f"tree-{number}"
        tree.mkdir(parents=True)
        ignore_corpus.build(tree)
        built = build(client, folder, tree, "FROM scratch\nCOPY . /\n", case.ignore)
        if built.error:
            assert "syntax error in pattern" in built.error or "illegal exclusion pattern" in built.error
        return REFUSED if built.error else built.files

    with ThreadPoolExecutor(4) as pool:
        return dict(zip((case.ignore for case in cases), pool.map(listing, enumerate(cases)), strict=True))
