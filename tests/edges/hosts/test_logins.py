"""Logins that differ from a plain one: what is asked for, what the host says first, and what it thinks of the keys."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from coordinator.domain.hosts.inventory import Address, Host, Kind
from tests.edges.hosts.ssh_bed import agent, host, refusal
from tests.services.board_lab import run
from tests.services.boards import Board
from tests.services.ssh_home import ssh_home

OwnBoard = Callable[..., Board]
# "Zutritt nur für …" in Latin-1, and bytes that are text in no encoding.
BANNER = b"Zutritt nur f\xfcr Berechtigte\n\xff\xfe\x00\x1b[31m\r\n"


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of whoever uses the boards."""
    home = tmp_path / "user"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


def with_banner(own_board: OwnBoard, **fields: object) -> Board:
    board = own_board(engine=False, sshd=("Banner /etc/banner",), **fields)
    Path(f"/proc/{board.pid}/root/etc/banner").write_bytes(BANNER)
    return board


@contextmanager
def ssh_agent(folder: Path, keys: int, *files: Path) -> Iterator[Path]:
    """The socket of an ssh-agent that holds so many other keys, and then those of the files."""
    socket = folder / "agent"
    started = run("ssh-agent", "-s", "-a", str(socket))
    environment = f"SSH_AUTH_SOCK={socket}"
    try:
        for number in range(keys):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / f"other{number}"))
            run("env", environment, "ssh-add", "-q", str(folder / f"other{number}"))
        for file in files:
            run("env", environment, "ssh-add", "-q", str(file))
        yield socket
    finally:
        os.kill(int(re.findall(r"AGENT_PID=(\d+)", started)[0]), signal.SIGTERM)


@asynccontextmanager
async def greeting(board: Board, words: bytes) -> AsyncIterator[int]:
    """A port of this machine that says these bytes first, and then is the board's sshd."""

    async def copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        writer.write(words)
        theirs, ours = await asyncio.open_connection(board.address, board.port)
        await asyncio.gather(copied(reader, ours), copied(theirs, writer))

    serving: list[asyncio.Task[None] | None] = []

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*filter(None, serving))


@pytest.mark.parametrize("asked", ["RequestTTY force", "RequestTTY yes", "RemoteCommand tmux attach"])
async def test_no_terminal_is_asked_for(own_board: OwnBoard, user: Path, asked: str):
    """A terminal would change the agent's bytes; another command would not be the agent."""
    board = own_board(engine=False)
    config = ssh_home(user, board)
    config.write_text(f"Host *\n  {asked}\n{config.read_text()}")

    async with agent(host(board), user) as client:
        assert (await client.probe())["uname"]["system"] == "Linux"


async def test_a_banner_may_be_any_bytes(own_board: OwnBoard, user: Path):
    """It is no reason to refuse a host; where the login is refused, what can be read of it is in the message."""
    board = with_banner(own_board)
    ssh_home(user, board)

    async with agent(host(board), user) as client:
        assert client.hello.machine_id == board.machine_id
    denied = await refusal(Host(name="pi", kind=Kind.BOARD, address=Address(board.name, "nobody")), user)

    assert denied.code == "denied"
    assert "it says: Zutritt nur f\ufffdr Berechtigte" in denied.message
    assert denied.message.isprintable()


async def test_words_before_the_version_may_be_any_bytes(own_board: OwnBoard, user: Path):
    """RFC 4253, 4.2: a server may send other lines first."""
    board = own_board(engine=False)
    config = ssh_home(user, board)

    async with greeting(board, BANNER) as port:
        config.write_text(
            f"Host *\n  HostKeyAlias {board.address}\n  Port {port}\n  HostName 127.0.0.1\n{config.read_text()}"
        )
        async with agent(host(board), user) as client:
            assert client.hello.machine_id == board.machine_id


async def test_a_version_that_is_no_text_is_an_error_of_that_host(own_board: OwnBoard, user: Path):
    """Whatever a host sends is said of that host; it never is an exception of another kind."""
    board = own_board(engine=False)
    config = ssh_home(user, board)

    async with greeting(board, b"SSH-2.0-f\xfcr\r\n") as port:
        config.write_text(f"Host *\n  Port {port}\n  HostName 127.0.0.1\n{config.read_text()}")
        refused = await refusal(host(board), user)

    assert refused.code == "ssh"
    assert "answers, but not with a usable SSH handshake" in refused.message


async def test_too_many_keys_are_said(own_board: OwnBoard, user: Path, monkeypatch: pytest.MonkeyPatch):
    """sshd hangs up after six; the hint names the setting that offers the right one first."""
    board = own_board(engine=False)
    config = ssh_home(user, board)
    config.write_text(
        config.read_text().replace("IdentitiesOnly yes", "IdentitiesOnly no").replace("IdentityFile", "#")
    )

    with ssh_agent(user, 7, user / ".ssh" / "id_ed25519") as socket:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        refused = await refusal(host(board), user)

    assert refused.code == "denied"
    assert "too many keys" in refused.message
    assert f"Host {board.name}\n" in refused.hint
    assert "IdentitiesOnly yes" in refused.hint
