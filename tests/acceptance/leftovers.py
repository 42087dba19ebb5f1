"""What a build leaves on a board: names in its engine, folders of jobs."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.services.boards import Board

LIST = ("images", "--format", "{{.Repository}}:{{.Tag}}")


def ours(listed: str) -> list[str]:
    """The names of ours among those that `LIST` prints."""
    return [name for name in listed.split() if name.startswith(("archloom/", "localhost:1/", "127.0.0.1"))]


def held(board: Board) -> list[str]:
    """Names of ours in its engine."""
    return ours(board.docker(*LIST))


def jobs(board: Board) -> list[str]:
    """Jobs whose folders its agent has."""
    folders = board.home.glob(".local/state/archloom-agent/*/jobs/*")
    return [path.name for path in folders if not path.name.startswith(".")]


def stays(found: Callable[[], set[str]], seconds: float = 15.0) -> set[str]:
    """What `found` still finds when a cancelled build's image, which may come late, has had its time to go."""
    until = time.monotonic() + seconds
    while (left := found()) and time.monotonic() < until:
        time.sleep(0.1)
    return left


def nothing_is_left(board: Board) -> None:
    [_] = board.home.glob(".local/state/archloom-agent/*/jobs")  # where they would be
    left = stays(lambda: {*held(board), *jobs(board)})
    assert not left, left
