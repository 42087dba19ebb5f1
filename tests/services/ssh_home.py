"""The `~/.ssh` of somebody who uses boards, and OpenSSH's client with it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.board_lab import run
from tests.services.boards import Board
from tests.services.commands import Child
from tests.services.missing import program


def ssh_home(home: Path, *boards: Board, trusted: bool = True) -> Path:
    """Writes `home/.ssh` for who uses these boards by name: key, (`trusted`) known_hosts, and the config it returns.

    asyncssh finds it by HOME; OpenSSH's programs only by `-F`.
    """
    folder = home / ".ssh"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key, known, config = folder / "id_ed25519", folder / "known_hosts", folder / "config"
    for suffix in ("", ".pub"):
        shutil.copy(f"{boards[0].key}{suffix}", f"{key}{suffix}")
    entries, keys = [], []
    for one in boards:
        jump = [f"    ProxyJump {one.behind.name}\n"] if one.behind else []
        entries += [
            f"Host {one.name}\n    HostName {one.address}\n    User {one.user}\n",
            f"    IdentityFile {key}\n    IdentitiesOnly yes\n    UserKnownHostsFile {known}\n",
            *jump,
        ]
        keys.append(f"{one.address},{one.second_address} {one.host_key}\n")
    config.write_text("".join(entries))
    known.write_text("".join(keys) if trusted else "")
    return config


def ssh_command(home: Path, *boards: Board) -> list[str]:
    """OpenSSH's `ssh` for these boards, which asks nothing; append a board's name and what to run there."""
    config = ssh_home(home, *boards)
    return [program("ssh"), "-F", str(config), "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"]


def said(home: Path, board: Board, command: str) -> str:
    """What a command prints that the board's user runs over OpenSSH. Raises CalledProcessError."""
    return run(*ssh_command(home, board), board.name, command)


@contextmanager
def forwarded(home: Path, board: Board, address: str) -> Iterator[int]:
    """A port on the board's loopback that leads to this address (`127.0.0.1:5000`) of this machine."""
    command = [*ssh_command(home, board), "-N", "-R", f"127.0.0.1:0:{address}", board.name]
    with Child(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as login:
        assert login.stderr is not None
        try:
            with login.within():
                line = next((line for line in login.stderr if "Allocated port" in line), "")
            found = re.search(r"Allocated port (\d+) ", line)
            assert found, f"{board.name} forwards no port"
            yield int(found[1])
        finally:
            login.kill()
