"""What a build leaves on a board: names in its engine, folders of jobs."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.services.boards import Board


def stays(found: Callable[[], set[str]], seconds: float = 15.0) -> set[str]:
    """What `found` still finds when a cancelled build's image, which may come late, has had its time to go."""
    until = time.monotonic() + seconds
    while (left := found()) and time.monotonic() < until:
        time.sleep(0.1)
    return left


def nothing_is_left(board: Board) -> None:
    [_] = board.home.glob(".local/state/archloom-agent/*/jobs")  # where they would be
    left = stays(lambda: {*board.held(), *map(str, board.jobs())})
    assert not left, left
