"""`cache_budget` on boards of every engine: after a run the build cache is within it, and without it nothing goes."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

import pytest

from agents.engine.engine_api import EngineSocket
from tests.acceptance.archloom import Home, context, good
from tests.services.boards import Board
from tests.services.images import base_image
from tests.services.registry import Registry
from tests.services.ssh_home import ssh_home

pytestmark = [pytest.mark.engine, pytest.mark.board_engines, pytest.mark.registry]

MIB = 1 << 20


def cache_size(board: Board) -> int:
    found = EngineSocket(str(board.engine_socket)).call("GET", "/system/df", {"type": "build-cache"})
    return sum(int(record["Size"]) for record in found["BuildCache"] or ())


@pytest.mark.parametrize("host", ["docker20", "docker26", "graph", "stored", "serviced"])
def test_a_build_cache_stays_within_its_budget(
    engines: Mapping[str, Board], home: Home, registry: Registry, tmp_path: Path, host: str
) -> None:
    """What was used longest ago goes when the run is over, and is told; a larger budget, or none, takes nothing."""
    board = engines[host]
    ssh_home(home.folder, board)
    inventory = home.folder / "inventory.yaml"
    base = base_image(registry, "linux/amd64", repository="budget/base")
    board.docker("builder", "prune", "--all", "--force")

    def build(settings: str) -> str:
        inventory.write_text(f"boards: {{{host}: {{host: {host}, {settings}}}}}\n")
        data = secrets.token_bytes(4 * MIB)
        folder = context(tmp_path / secrets.token_hex(4), f"FROM {base.reference}\nCOPY data /data\n", {})
        (folder / "data").write_bytes(data)
        tag = f"{registry.address}/budget/{host}:1"
        return good(home.run("build", str(folder), "-t", tag, "--platform", "linux/amd64")).stderr

    for _ in range(3):
        assert "cache_budget" not in build("jobs: 1")
    full = cache_size(board)
    assert full > 12 * MIB
    assert "cache_budget" not in build("cache_budget: 900MB")
    assert cache_size(board) > full

    said = build("cache_budget: 10MiB")

    assert "MB of build cache removed (cache_budget)" in said
    assert cache_size(board) <= 10 * MIB
