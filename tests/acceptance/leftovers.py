"""What a build leaves on a board: names in its engine, folders of jobs."""

from __future__ import annotations

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


def nothing_is_left(board: Board) -> None:
    [_] = board.home.glob(".local/state/archloom-agent/*/jobs")  # where they would be
    assert (held(board), jobs(board)) == ([], [])
