"""What a board keeps of a push that was cut off is gone after the next run has used it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.archloom import Home, context, follow, good
from tests.acceptance.leftovers import nothing_is_left
from tests.services.boards import Board
from tests.services.images import base_image
from tests.services.registry import Registry
from tests.services.ssh_home import ssh_home

pytestmark = [pytest.mark.engine, pytest.mark.registry]

OwnBoard = Callable[..., Board]


@pytest.mark.parametrize("crash", ["agent killed", "power cut"])
def test_names_of_a_push_that_was_cut_off_go(
    home: Home, own_board: OwnBoard, registry: Registry, tmp_path: Path, crash: str
):
    """They would keep the image forever: its agent could not remove them. The run itself pushes again."""
    board = own_board(name="pi5")
    ssh_home(home.folder, board)
    (home.folder / "inventory.yaml").write_text("boards: {pi5: ssh://pi5}\n")
    base = base_image(registry, "linux/amd64", repository="left/base")

    def words() -> list[str]:
        folder = tmp_path / secrets.token_hex(4)
        context(folder, f"FROM {base.reference}\nCOPY data /data\n", {"data": secrets.token_bytes(3_000_000)})
        return ["build", str(folder), "-t", f"{registry.address}/left/app:1", "--platform", "linux/amd64"]

    running = home.start(*words())
    follow(running, "pi5 native   build")
    board.bandwidth("4mbit")
    follow(running, r"push: [1-9]")
    if crash == "agent killed":
        board.run("kill -9 $(pgrep -f '[a]rchloom-agent.* serve')")
    else:
        board.power_off()
        board.power_on()
    board.bandwidth(None)
    running.communicate(timeout=120)

    good(home.run(*words()))

    nothing_is_left(board)
