"""The command line that starts the agent: it runs a whole file of the agent only, and replaces a damaged one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.hosts.agent.bundle import bundle
from coordinator.hosts.ssh.bootstrap import command_line
from tests.services.commands import run_limited

_DAMAGES: dict[str, Callable[[Path], object]] = {
    "a byte flipped": lambda path: _poke(path, path.stat().st_size // 2, 0xFF),
    "a block of zeros": lambda path: _zero(path, 4096),
    "all zeros": lambda path: _zero(path, path.stat().st_size),
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: os.truncate(path, 0),
    "a folder": lambda path: (path.unlink(), (path / "inner").mkdir(parents=True)),
    "a link to a folder": lambda path: (path.unlink(), path.symlink_to(path.parent.parent)),
    "a link to nowhere": lambda path: (path.unlink(), path.symlink_to("nowhere")),
}


class Login:
    """A login of a user with this home, whose PATH has these programs only."""

    def __init__(self, home: Path, programs: Path | None = None) -> None:
        self._environment = {"HOME": str(home), "PATH": str(programs or os.environ["PATH"])}
        self._only = programs is not None
        self.agent = bundle({"XDG_CACHE_HOME": str(home / "beast")})
        self.sent = home / ".cache" / "archloom" / self.agent.name

    def start(self) -> list[str]:
        """Start the agent, which is there or is sent; the steps that the script named. It must have run."""
        line = command_line(self.agent.name, self.agent.stat().st_size, 0, ("--version",))
        if self._only:  # the script adds the folders where programs usually are
            line = line.replace("PATH=$PATH:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/snap/bin; ", "")
        ran = run_limited(
            ["/bin/sh", "-c", line], input=self.agent.read_bytes(), env=self._environment, stdout=subprocess.PIPE
        )
        said = ran.stdout.decode()
        assert ran.returncode == 0, said
        assert f"archloom-agent {self.agent.stem.removeprefix('archloom-agent-')}, protocol 1\n" in said
        return [words.split()[1] for words in said.splitlines() if words.startswith("archloom-boot ")]


@pytest.fixture(params=["sha256sum", "python"])
def login(request: pytest.FixtureRequest, tmp_path: Path) -> Login:
    """On a board with sha256sum, and on one without."""
    if request.param == "sha256sum":
        return Login(tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "python3").symlink_to(sys.executable)
    for name in ("sh", "id", "find", "head", "mkdir", "rm"):
        (programs / name).symlink_to(os.path.realpath(shutil.which(name) or name))
    return Login(tmp_path, programs)


def test_the_agent_is_sent_once(login: Login):
    """The second start finds it, and the folder has nothing else but the byte code."""
    assert login.start() == ["send", "here"]
    assert login.start() == ["here"]
    assert login.sent.read_bytes() == login.agent.read_bytes()
    assert [path.name for path in login.sent.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("damage", _DAMAGES)
def test_a_damaged_agent_is_sent_again(login: Login, damage: str):
    """Whatever a power cut, a worn card or a person made of the file: once it is replaced, all is as before."""
    login.start()
    _DAMAGES[damage](login.sent)

    assert login.start() == ["send", "here"]
    assert login.start() == ["here"]
    assert login.sent.read_bytes() == login.agent.read_bytes()


def _poke(path: Path, at: int, mask: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= mask
    path.write_bytes(data)


def _zero(path: Path, count: int) -> None:
    data = path.read_bytes()
    at = (len(data) - count) // 2
    path.write_bytes(data[:at] + bytes(count) + data[at + count :])
