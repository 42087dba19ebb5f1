"""Login shells whose start-up files are for somebody who types: the agent starts, or the cause is said soon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from coordinator.errors import LostError
from tests.edges.hosts.ssh_bed import agent, host, refusal
from tests.services.boards import Board
from tests.services.ssh_home import ssh_home

OwnBoard = Callable[..., Board]
# A shim of pyenv whose versions are gone.
SHIM = "#!/bin/sh\necho 'pyenv: python3: command not found' >&2\nexit 127\n"
FIRST = "export PATH=$HOME/bin:$PATH\n"


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of whoever uses the boards."""
    home = tmp_path / "user"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


def write(board: Board, files: Mapping[str, str]) -> None:
    """Give the board's user these files, which may be run."""
    for name, text in files.items():
        path = board.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    board.run(f"chown -R {board.user}: ~{board.user}")


@pytest.mark.parametrize(
    "files",
    [
        {".bashrc": "export PYTHONHOME=/nowhere PYTHONSTARTUP=/nowhere PYTHONVERBOSE=1\n"},
        {".bashrc": "export PYTHONPATH=$HOME/bad\n", "bad/json.py": "1/0\n", "bad/encodings.py": "1/0\n"},
        {".bashrc": FIRST, "bin/python3": SHIM},
        {".bashrc": FIRST, "bin/python3": "#!/bin/sh\nexit 0\n"},
        {".bashrc": FIRST, "bin/python3": "#!/nowhere/python3\n"},
    ],
    ids=["PYTHONHOME", "PYTHONPATH", "shim", "mute", "dangling"],
)
async def test_another_python_runs_the_agent(own_board: OwnBoard, user: Path, files: dict[str, str]):
    """The first of PATH need not run; at the first start, when the file is sent, and at a later one."""
    board = own_board(user="pi", engine=False)
    ssh_home(user, board)
    write(board, files)
    async with agent(host(board), user) as client:
        first = client.hello.agent
    async with agent(host(board), user) as client:
        assert client.hello.agent == first
        assert (await client.probe())["uname"]["system"] == "Linux"


async def test_a_python_that_broke_later_is_passed_over(own_board: OwnBoard, user: Path):
    """The agent's file is there, so nothing but the agent itself tells that it does not run."""
    board = own_board(user="pi", engine=False)
    ssh_home(user, board)
    async with agent(host(board), user) as client:
        first = client.hello.agent
    write(board, {".bashrc": FIRST, "bin/python3": SHIM})

    async with agent(host(board), user) as client:
        assert client.hello.agent == first


async def test_each_python_is_named_where_none_runs(own_board: OwnBoard, user: Path):
    board = own_board(user="pi", engine=False, hidden=("python*", "pypy*"))
    ssh_home(user, board)
    old = "#!/bin/sh\necho '3.7.3 (default, Apr 3 2019)' >&2\nexit 1\n"
    write(board, {".bashrc": FIRST, "bin/python3": SHIM, "bin/python3.9": old, "bin/python3.10": "#!/bin/sh\nexit 7\n"})

    refused = await refusal(host(board), user)

    assert refused.code == "python"
    assert "python3: pyenv: python3: command not found; python3.10: exit status 7; python3.9: 3.7.3" in refused.message
    assert "sudo apt install" in refused.hint
    assert "pyenv" in refused.hint


async def test_a_shell_that_hangs_is_said_with_what_it_printed(own_board: OwnBoard, user: Path):
    """It runs another shell, asks, waits, or ends: what it printed last is in the message, and the cure in the hint."""
    files = {
        "fish": "echo Welcome to fish; exec fish\n",
        "asks": "echo -n 'continue? ' >&2; read answer\n",
        "shown": "printf 'Press any key'; read -n1\n",
        "waits": "sleep 1000\n",
        "mute": "echo bye\nexit 0\n",
        "loud": "yes no\n",
        "line": "yes | tr -d '\\n'\n",
    }
    boards = {name: own_board(name=name, user="root" if name == "shown" else "pi", engine=False) for name in files}
    ssh_home(user, *boards.values())
    for name, text in files.items():
        write(boards[name], {".bashrc": text})

    answers = await asyncio.gather(*(refusal(host(board), user) for board in boards.values()))

    said: dict[str, LostError] = dict(zip(files, answers, strict=True))
    assert {error.code for error in said.values()} == {"agent"}
    assert all("~/.bashrc there return at its top" in error.hint for error in said.values())
    late = "its login shell has not run a command in 9 s; it printed"
    assert f"{late}: Welcome to fish" in said["fish"].message
    assert f"{late}: continue?" in said["asks"].message
    assert f"{late}: Press any key" in said["shown"].message
    assert f"{late} nothing" in said["waits"].message
    assert "does not run commands: bye" in said["mute"].message
    assert "prints more than 64 KiB before it runs a command: no" in said["loud"].message
    assert "prints more than 64 KiB before it runs a command: y" in said["line"].message
    assert "sleep 1000" not in boards["waits"].run("ps ax -o args")
