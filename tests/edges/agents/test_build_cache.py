"""The build cache of an engine of its own is kept within a budget."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from agents.engine.build_cache import prune
from agents.engine.docker_clis import find_cli
from agents.engine.engine_api import EngineSocket
from tests.edges.agents.contexts_bed import Board
from tests.edges.agents.folders_bed import file
from tests.services.commands import run_limited
from tests.services.walled_engine import walled_engine

MIB = 1 << 20


@pytest.fixture(scope="module")
def engine() -> Iterator[Path]:
    with walled_engine() as socket:
        yield socket


def build(engine: Path, folder: Path, number: int) -> None:
    """Three megabytes of context, and as much in a step."""
    folder.mkdir(exist_ok=True)
    (folder / "data").write_bytes(os.urandom(3 * MIB))
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY data /data\n")
    client = find_cli("docker", os.environ, folder, "", "")
    if client is None:
        pytest.skip("every docker command line here is 23 or newer, and drives buildx")
    docker = [client, "-H", f"unix://{engine}"]
    environ = {**os.environ, "DOCKER_BUILDKIT": "1"}
    made = [*docker, "build", "-t", f"made:{number}", str(folder)]
    run_limited(made, check=True, capture_output=True, env=environ, timeout=120)
    run_limited([*docker, "rmi", f"made:{number}"], check=True, capture_output=True, timeout=60)


def size(engine: Path) -> int:
    return sum(record["Size"] for record in EngineSocket(str(engine)).call("GET", "/system/df")["BuildCache"])


def test_what_was_used_longest_ago_goes_beyond_the_budget(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than that: below the budget nothing goes."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{engine}")
    for number in range(3):
        build(engine, tmp_path / "context", number)
    before = size(engine)
    assert before > 9 * MIB

    assert prune(before + MIB) == 0
    assert size(engine) == before
    freed = prune(7 * MIB)
    assert freed > 0
    assert 0 < size(engine) <= 7 * MIB
    assert size(engine) == before - freed


def copies(engine: Path) -> set[str]:
    records = EngineSocket(str(engine)).call("GET", "/system/df")["BuildCache"]
    return {record["ID"] for record in records if record["Type"] == "source.local"}


def test_an_engine_keeps_one_copy_of_a_context(engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder gets a new name for each of these; what others had the engine copy stays."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{engine}")
    build(engine, tmp_path / "context", 9)
    others = copies(engine)
    with ExitStack() as held:
        board = Board("docker", tmp_path / "state", held)
        for _ in range(4):
            board.build(file(uuid.uuid4().bytes))
            assert copies(engine) >= others
            # Of the context, of its ignore file, and of the Dockerfile.
            assert len(copies(engine) - others) == 3
        assert len(list(tmp_path.glob("state/contexts/*/1/*-*"))) == 1
