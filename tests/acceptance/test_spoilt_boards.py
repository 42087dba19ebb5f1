"""Boards that crashes, power cuts and other users have spoilt: the next run builds there, and clears up what it can."""

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
        board.run("kill -9 $(pgrep -f '[a]rchloom-agent.* serve') || true")  # one may end with another
    else:
        board.power_off()
        board.power_on()
    board.bandwidth(None)
    running.communicate(timeout=120)

    good(home.run(*words()))

    nothing_is_left(board)


@pytest.mark.parametrize("trap", ["mkfifo -m 666", "ln -s /etc/passwd", "mkdir"])
def test_a_lock_file_that_another_user_has_spoilt_costs_no_job(
    home: Home, own_board: OwnBoard, registry: Registry, tmp_path: Path, trap: str
):
    """The job is built with a lock file of the agent's own, and `boards` names the path and the cure."""
    board = own_board(name="pi5", user="pi")
    ssh_home(home.folder, board)
    (home.folder / "inventory.yaml").write_text("boards: {pi5: ssh://pi5}\n")
    folder = context(tmp_path / "app", "FROM scratch\nCOPY data /data\n", {"data": secrets.token_bytes(1000)})
    locks = board.run("docker info --format '/run/lock/archloom-{{.ID}}'").strip().replace(":", "-")
    board.run(f"su nobody -s /bin/sh -c 'mkdir -m 1777 {locks}; {trap} {locks}/slot-0'")

    good(home.run("build", str(folder), "-t", f"{registry.address}/spoilt/app:1", "--platform", "linux/amd64"))

    shown = good(home.run("boards"))
    assert f"pi5: {locks}/slot-0 is no lock file that this login user can use" in shown.stderr
    assert f"hint: sudo rm -r {locks}/slot-0" in shown.stderr
    nothing_is_left(board)


def test_folders_of_another_user_in_the_home_are_passed_over(home: Home, own_board: OwnBoard):
    """As `sudo` makes them where it keeps HOME: the agent's file and its state find another place."""
    board = own_board(name="pi5", user="pi")
    ssh_home(home.folder, board)
    (home.folder / "inventory.yaml").write_text("boards: {pi5: ssh://pi5}\n")
    good(home.run("boards"))
    for owned in (".local/state/archloom-agent/*/jobs", ".local/state/archloom-agent/*", ".cache/archloom"):
        board.run(f"chown root:root /home/pi/{owned}")
        good(home.run("boards", "--refresh"))

    assert board.run("ls -d /var/tmp/archloom-*/archloom-agent /var/tmp/archloom-*/*.pyz").count("\n") == 2
