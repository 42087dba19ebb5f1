"""Each kind of board that `BoardSpec` names is one: its fault is real, and is met over SSH."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from tests.services.board_lab import run
from tests.services.boards import Board
from tests.services.ssh_home import said, ssh_command, ssh_home

YEAR = 365 * 86400


@pytest.mark.parametrize(
    ("shell", "command", "answer"),
    [
        ("bash", "echo ${BASH_VERSION%%[.0-9]*}bash", "bash"),
        ("dash", "echo ${BASH_VERSION-none} $0", "none dash"),
        ("fish", "echo (string replace -r '.+' fish $FISH_VERSION)", "fish"),
        ("tcsh", "echo $tcsh:r:r tcsh", "6 tcsh"),
    ],
)
@pytest.mark.parametrize("user", ["root", "pi"])
def test_a_login_shell_runs_commands_and_prints_first(
    own_board: Callable[..., Board], tmp_path: Path, shell: str, command: str, answer: str, user: str
) -> None:
    """The shell is the one asked for, and its greeting comes before every command's output, on the same line."""
    board = own_board(user=user, shell=shell, motd="Linux pi 6.1 -- {no frame}", engine=False)
    assert said(tmp_path, board, command) == f"Linux pi 6.1 -- {{no frame}}{answer}\n"


def test_what_is_hidden_is_not_there(own_board: Callable[..., Board], tmp_path: Path) -> None:
    """A board without Python has none in any folder programs are in; this machine keeps its own."""
    board = own_board(hidden=("python*", "pypy*"), engine=False)
    path = "PATH=$PATH:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin:/opt/bin"
    assert said(tmp_path, board, f"{path} command -v python3 python || echo none") == "none\n"
    assert said(tmp_path, own_board(engine=False), "command -v python3")
    assert Path("/usr/bin/python3").exists()


@pytest.mark.engine
def test_who_is_not_in_the_group_may_not_use_the_engine(own_board: Callable[..., Board], tmp_path: Path) -> None:
    """The engine refuses a user outside group docker; the cure works at the next login."""
    board = own_board(user="pi", groups=())
    asked = "docker version --format '{{.Server.Os}}'"
    with pytest.raises(subprocess.CalledProcessError) as refused:
        said(tmp_path, board, asked)
    assert "permission denied" in refused.value.stderr
    board.run("usermod -aG docker pi")
    assert said(tmp_path, board, asked) == "linux\n"


async def test_sshd_refuses_what_its_config_forbids(own_board: Callable[..., Board]) -> None:
    """No subsystem, no forwarding in either direction, no second session: each is refused by a real sshd."""
    board = own_board(sftp=False, sshd=("AllowTcpForwarding no", "MaxSessions 1"), engine=False)
    async with _connect(board) as connection:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.start_sftp_client()
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 9)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection("127.0.0.1", 22)
        async with connection.create_process("cat"):
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.run("true")


async def test_a_sound_board_allows_all_that(own_board: Callable[..., Board]) -> None:
    """Its sshd has the subsystem, forwards, and serves sessions side by side."""
    board = own_board(user="pi", engine=False)
    async with _connect(board) as connection:
        async with connection.start_sftp_client() as sftp:
            assert ".bashrc" in await sftp.listdir(".")
        listener = await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 9)
        assert listener.get_port()
        listener.close()
        _, writer = await connection.open_connection("127.0.0.1", 22)
        writer.close()
        async with connection.create_process("cat"):
            assert (await connection.run("id -un", check=True)).stdout == "pi\n"


def test_few_may_knock_at_once(own_board: Callable[..., Board]) -> None:
    """With MaxStartups 2 the third who has not said who he is finds the door shut."""
    board = own_board(sshd=("MaxStartups 2",), engine=False)
    with ExitStack() as stack:
        greeted = []
        for _ in range(3):
            knocking = stack.enter_context(socket.create_connection((board.address, board.port), timeout=60))
            greeted.append(knocking.recv(4) == b"SSH-")
    assert greeted == [True, True, False]


async def test_a_password_opens_the_door(own_board: Callable[..., Board]) -> None:
    """Before enrolment a board knows no key, only its user's password."""
    board = own_board(user="pi", password="rasp berry ü", authorized=False, engine=False)
    with pytest.raises(asyncssh.PermissionDenied):
        async with _connect(board):
            pass
    with pytest.raises(asyncssh.PermissionDenied):
        async with _connect(board, password="raspberry"):
            pass
    async with _connect(board, password="rasp berry ü") as connection:
        assert (await connection.run("id -un", check=True)).stdout == "pi\n"


def test_folders_have_the_options_asked_for(own_board: Callable[..., Board], tmp_path: Path) -> None:
    """A home nobody can write to, and a /tmp nothing can be run from, at the first boot and later."""
    board = own_board(user="pi", mounts=(("/home/pi", "ro"), ("/tmp", "noexec")), engine=False)
    for _ in range(2):
        assert "Read-only" in said(tmp_path, board, "touch ~/new 2>&1 || true")
        words = said(tmp_path, board, "cp /bin/true /tmp/program && /tmp/program 2>&1 || echo refused")
        assert words.endswith("Permission denied\nrefused\n")
        assert said(tmp_path, board, "cp /bin/true /dev/shm/program && /dev/shm/program && echo ran") == "ran\n"
        board.power_off()
        board.power_on()


@pytest.mark.engine
def test_a_small_disk_fills_up_and_stays_full(own_board: Callable[..., Board], tmp_path: Path) -> None:
    """The engine's data and a home on small disks: they end where they should, also after a reboot."""
    board = own_board(user="pi", disks=(("/var/lib/docker", 48), ("/home", 8)))
    sizes = [int(size) for size in board.run("df -m --output=size /var/lib/docker /home").split()[1:]]
    assert all(0.8 * asked < size <= asked for size, asked in zip(sizes, (48, 8), strict=True)), sizes
    board.fill("/var/lib/docker", leave=1 << 20)
    board.fill("/home")
    for _ in range(2):
        with pytest.raises(subprocess.CalledProcessError) as refused:
            board.run("cp $(command -v dockerd) /var/lib/docker/more")
        assert "No space left" in refused.value.stderr
        assert "No space left" in said(tmp_path, board, "printf 12345 2>&1 | tee ~/more 2>&1 || true")
        assert board.docker("info", "--format", "{{.Driver}}").strip() == "overlay2"
        board.power_off()
        board.power_on()


def test_a_clock_can_be_a_year_back(own_board: Callable[..., Board], tmp_path: Path) -> None:
    """Every process of a login, in any language, sees the year before; time still passes, and files fit in."""
    board = own_board(clock=-YEAR, engine=False)
    began = time.time()
    shell = float(said(tmp_path, board, "date +%s.%N"))
    python = float(said(tmp_path, board, "python3 -c 'import time; print(time.time())'"))
    file = float(said(tmp_path, board, "touch ~/file && stat -c %.Y ~/file"))
    for seen in (shell, python, file):
        assert 0 <= seen + YEAR - began + 1 < 60
    assert python > shell
    waited = said(
        tmp_path,
        board,
        "python3 -c 'import time; t = time.monotonic(); time.sleep(0.1); "
        "print(0.1 <= time.monotonic() - t < 5, t < 1e9)'",
    )
    assert waited == "True True\n"


def test_machines_can_look_alike(own_board: Callable[..., Board], tmp_path: Path) -> None:
    """A cloned card has the machine id of another board; and one board has two addresses."""
    first = own_board(name="first", engine=False)
    clone = own_board(name="clone", engine=False, machine_id=first.machine_id)
    assert {said(tmp_path, board, "cat /etc/machine-id").strip() for board in (first, clone)} == {first.machine_id}
    assert first.host_key != clone.host_key
    command = [*ssh_command(tmp_path, first), "-o", f"HostName={first.second_address}"]
    assert run(*command, first.name, "hostname; cat /etc/machine-id").split() == ["first", first.machine_id]


@asynccontextmanager
async def _connect(board: Board, password: str | None = None) -> AsyncIterator[asyncssh.SSHClientConnection]:
    async with asyncssh.connect(
        board.address,
        username=board.user,
        password=password,
        client_keys=None if password else [str(board.key)],
        known_hosts=asyncssh.import_known_hosts(f"{board.address} {board.host_key}\n"),
        config=None,
    ) as connection:
        yield connection


async def test_asyncssh_finds_boards_by_name(
    own_board: Callable[..., Board], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the written home as HOME, asyncssh knows name, user, key and trusted host key, through a jump too."""
    front = own_board(name="front", user="pi", engine=False)
    inner = own_board(name="inner", engine=False, behind=front)
    ssh_home(tmp_path, front, inner)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    for board in (front, inner):
        async with asyncssh.connect(board.name) as connection:
            answer = await connection.run("hostname; id -un", check=True)
        assert answer.stdout == f"{board.name}\n{board.user}\n"
    inner.new_host_key()
    with pytest.raises(asyncssh.HostKeyNotVerifiable):
        await asyncssh.connect("inner")
