"""The test boards are what they claim to be: machines that can be switched off, unplugged, flashed."""

from __future__ import annotations

import asyncio
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import pytest

from tests.services.board_lab import run
from tests.services.boards import Board
from tests.services.busybox import busybox
from tests.services.commands import Child, run_limited
from tests.services.images import base_image
from tests.services.paths import ROOT
from tests.services.registry import Registry
from tests.services.ssh_home import said, ssh_command, ssh_home

# Long enough that what is refused, or answered, would have been; what never comes is waited for so long.
SILENCE = 0.7
PATIENCE = 60.0


@contextmanager
def echoing(home: Path, board: Board) -> Iterator[Child]:
    """A login in which every line comes back."""
    command = [*ssh_command(home, board), board.name, "cat"]
    with Child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as session:
        try:
            say(session, "first")
            assert answers(session, PATIENCE)
            yield session
        finally:
            session.kill()


def say(session: Child, word: str) -> None:
    assert session.stdin is not None
    session.stdin.write(f"{word}\n")
    session.stdin.flush()


def answers(session: Child, within: float) -> str:
    """The next line, or "" if none comes in time."""
    assert session.stdout is not None
    ready, _, _ = select.select([session.stdout], [], [], within)
    return session.line() if ready else ""


def knock(board: Board, within: float = SILENCE) -> bytes:
    """The first bytes sshd says. Raises OSError: TimeoutError when nothing answers."""
    with socket.create_connection((board.address, board.port), timeout=within) as connection:
        return connection.recv(4)


def import_image(board: Board, tmp_path: Path) -> str:
    """Puts an image with a shell into the board's engine, without a registry; its id."""
    (tmp_path / "tree/bin").mkdir(parents=True)
    (tmp_path / "tree/bin/sh").write_bytes(busybox("linux/amd64").read_bytes())
    (tmp_path / "tree/bin/sh").chmod(0o755)
    run("tar", "-C", str(tmp_path / "tree"), "-cf", str(tmp_path / "tree.tar"), ".")
    return board.docker("import", str(tmp_path / "tree.tar"), "held:1").strip()


@pytest.mark.engine
def test_each_board_is_a_machine_of_its_own(farm: Mapping[str, Board], tmp_path: Path) -> None:
    """Boards that run at once differ in all that tells machines apart, and their users log in by key."""
    asked = (
        "hostname",
        "cat /proc/sys/kernel/random/boot_id",
        "cat /etc/machine-id",
        "docker info --format '{{.ID}}'",
        "cat ~/mark",
    )
    for board in farm.values():
        (board.home / "mark").write_text(f"home of {board.name}\n")
    answered = {
        board.name: said(tmp_path / board.name, board, "; ".join(asked)).splitlines() for board in farm.values()
    }
    assert [words[0] for words in answered.values()] == list(farm)
    for question, words in zip(asked, zip(*answered.values(), strict=True), strict=True):
        assert len(set(words)) == len(farm), f"{question}: {words}"
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() not in {words[1] for words in answered.values()}
    assert len({board.host_key for board in farm.values()}) == len(farm)
    assert said(tmp_path, farm["pi-b"], "id -un; id -Gn").split() == ["pi", "pi", "docker"]


@pytest.mark.engine
def test_a_board_runs_containers_on_a_real_store(farm: Mapping[str, Board], tmp_path: Path) -> None:
    """What a board's engine holds is its own, runs with a network, and is stored as on a real one."""
    import_image(farm["pi-a"], tmp_path)
    assert farm["pi-a"].docker("run", "--rm", "held:1", "/bin/sh", "-c", "echo $((6 * 7))").strip() == "42"
    assert farm["pi-a"].docker("info", "--format", "{{.Driver}}").strip() == "overlay2"
    assert not farm["pi-b"].docker("images", "--quiet", "held:1")
    farm["pi-a"].docker("rmi", "held:1")


@pytest.mark.registry
def test_a_board_reaches_no_registry_of_this_machine(farm: Mapping[str, Board], registry: Registry) -> None:
    """What listens on the coordinator's loopback is out of a board's reach: only a tunnel leads there."""
    board, port = farm["pi-a"], registry.address.rpartition(":")[2]
    for address in ("127.0.0.1", board.gateway):
        with pytest.raises(subprocess.CalledProcessError):
            board.run(f"bash -c ': </dev/tcp/{address}/{port}'")


@pytest.mark.engine
@pytest.mark.registry
async def test_a_tunnel_leads_there(farm: Mapping[str, Board], registry: Registry) -> None:
    """A board's engine pulls from the coordinator's registry through a port that SSH forwards, without settings."""
    board = farm["pi-b"]
    base = base_image(registry, "linux/amd64", repository="boards/tunnel")
    address, _, port = registry.address.rpartition(":")
    known = asyncssh.import_known_hosts(f"{board.address} {board.host_key}\n")
    async with (
        asyncssh.connect(board.address, username=board.user, client_keys=[str(board.key)], known_hosts=known) as login,
        await login.forward_remote_port("127.0.0.1", 0, address, int(port)) as tunnel,
    ):
        name = f"127.0.0.1:{tunnel.get_port()}/boards/tunnel"
        await asyncio.to_thread(board.docker, "pull", "--quiet", f"{name}@{base.digest}")
        held = board.docker("image", "inspect", "--format", "{{.RepoDigests}}", f"{name}@{base.digest}")
        board.docker("rmi", f"{name}@{base.digest}")
    assert base.digest in held


@pytest.mark.engine
def test_a_reboot_keeps_disks_and_nothing_else(own_board: Callable[..., Board], tmp_path: Path) -> None:
    """After a power cut the board has another boot id and an empty /run; its files, users and images are there."""
    board = own_board(user="pi")
    before, key = board.run("cat /proc/sys/kernel/random/boot_id"), board.host_key
    image = import_image(board, tmp_path)
    board.docker("run", "--detach", "held:1", "/bin/sh", "-c", "read forever < /dev/zero")
    board.run("echo kept > /etc/kept; touch /run/lost /tmp/lost")
    board.power_off()
    board.power_on()
    assert board.run("cat /proc/sys/kernel/random/boot_id") != before
    assert board.host_key == key
    assert float(said(tmp_path, board, "cut -d ' ' -f 1 /proc/uptime")) < PATIENCE
    assert board.run("cat /etc/kept; ls /run/lost /tmp/lost || true").strip() == "kept"
    assert board.docker("images", "--quiet", "--no-trunc").strip() == image
    assert said(tmp_path, board, "id -un").strip() == "pi"


def test_a_board_that_is_off_does_not_answer(own_board: Callable[..., Board], tmp_path: Path) -> None:
    """Connects hang and a login hears nothing; when the board is back, it knows nothing of that login."""
    board = own_board(engine=False)
    with echoing(tmp_path, board) as session:
        board.power_off()
        say(session, "second")
        with pytest.raises(TimeoutError):
            knock(board)
        assert (answers(session, SILENCE), session.poll()) == ("", None)
        board.power_on()
        assert knock(board, PATIENCE) == b"SSH-"
        assert session.wait(PATIENCE) == 255


def test_an_unplugged_board_goes_on(own_board: Callable[..., Board], tmp_path: Path) -> None:
    """Connects hang and a login hears nothing, until the cable is back: then what was said is answered."""
    board = own_board(engine=False)
    with echoing(tmp_path, board) as session:
        board.unplug()
        say(session, "second")
        with pytest.raises(TimeoutError):
            knock(board)
        assert (answers(session, SILENCE), session.poll()) == ("", None)
        assert board.run("cat ~/.ssh/authorized_keys")
        board.plug()
        assert answers(session, PATIENCE) == "second\n"
        assert knock(board, PATIENCE) == b"SSH-"


def test_a_slow_cable_is_slow(own_board: Callable[..., Board], tmp_path: Path) -> None:
    """A limited cable carries as much as it should, each way, and all there is afterwards."""
    board = own_board(engine=False)
    command = ssh_command(tmp_path, board)
    size = 1_500_000  # 12 Mbit

    def seconds(words: str, stdin: str = "") -> float:
        began = time.monotonic()
        run(*command, board.name, words, stdin=stdin)
        return time.monotonic() - began

    board.bandwidth("10mbit")
    slow = seconds(f"head -c {size} /dev/zero"), seconds("cat >/dev/null", "\0" * size)
    board.bandwidth(None)
    fast = seconds(f"head -c {size} /dev/zero"), seconds("cat >/dev/null", "\0" * size)
    for limited, free in zip(slow, fast, strict=True):
        assert 1.0 < limited < 1.2 + 10 * free, (slow, fast)
        assert free < limited, (slow, fast)


def test_a_flashed_board_has_another_key(own_board: Callable[..., Board], tmp_path: Path) -> None:
    """Who trusts the old key is warned of the new one, whether the board was on or off as it changed."""
    board = own_board(engine=False)
    for is_on in (True, False):
        command, old = ssh_command(tmp_path, board), board.fingerprint
        run(*command, board.name, "true")
        if not is_on:
            board.power_off()
        board.new_host_key()
        board.restore()
        assert board.fingerprint != old
        with pytest.raises(subprocess.CalledProcessError) as refused:
            run(*command, board.name, "true")
        assert board.fingerprint in refused.value.stderr
        said(tmp_path, board, "true")


def test_a_board_behind_another_is_reached_through_it_only(own_board: Callable[..., Board], tmp_path: Path) -> None:
    """A jump leads to it, before and after the board in front was rebooted; nothing else does."""
    front = own_board(name="front", engine=False)
    inner = own_board(name="inner", user="pi", engine=False, behind=front)
    command = ssh_command(tmp_path, front, inner)
    # On the command line it is the first ssh's only, not the one's that makes the way.
    impatient = tmp_path / "impatient"
    impatient.write_text(f"ConnectTimeout 1\nInclude {ssh_home(tmp_path, front, inner)}\n")
    for _ in range(2):
        assert run(*command, "inner", "hostname; id -un").split() == ["inner", "pi"]
        with pytest.raises(OSError, match=r"unreachable|No route|timed out"):
            knock(inner)
        front.power_off()
        with pytest.raises(subprocess.CalledProcessError) as refused:
            run(*command, "-F", str(impatient), "inner", "true")
        assert "timed out" in refused.value.stderr
        front.power_on()


@pytest.mark.parametrize("word", ["SIGKILL", "SIGINT"])
def test_nothing_is_left_when_the_tests_are_killed(tmp_path: Path, word: str) -> None:
    """The kernel, the disk and the next run find no trace of boards whose tests were killed."""
    script = f"""
import os, signal
from pathlib import Path
from tests.services.board_lab import lab
from tests.services.board_spec import BoardSpec
from tests.services.boards import board

with lab(Path({str(tmp_path)!r}, "lab")) as where, board(where, BoardSpec(disks=(("/var/tmp", 8),))) as made:
    print(where.name, made.pid, flush=True)
    os.kill(os.getpid(), signal.{word})
    signal.pause()
"""
    killed = run_limited([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    name, pid = killed.stdout.split()
    number = "".join(filter(str.isdigit, name))
    # The lab's number is free again when everything is gone.
    run("flock", "--timeout", "60", f"/run/lock/archloom-test-boards-{number}", "true")
    assert killed.returncode == -signal.Signals[word]
    assert not Path("/proc", pid).exists()
    assert not (tmp_path / "lab").exists()
    assert name not in run("ip", "link")
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{name}*"))
    assert str(tmp_path) not in run("losetup", "--all")
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def test_a_board_buries_what_outlives_its_login(own_board: Callable[..., Board], tmp_path: Path) -> None:
    """A job of its own session runs on after the login, and leaves nothing behind in the list of processes."""
    board = own_board(user="pi", engine=False)
    said(tmp_path, board, "mkfifo go; setsid sh -c 'echo $$ >pid; read word <go; echo $word >heard' >/dev/null 2>&1 &")
    said(tmp_path, board, "while ! [ -s pid ]; do :; done; echo on >go; while ! [ -s heard ]; do :; done")
    board.run("job=$(cat /home/pi/pid); while [ -e /proc/$job ]; do :; done")
    assert (board.home / "heard").read_text() == "on\n"


def test_boards_are_made_side_by_side(own_board: Callable[..., Board]) -> None:
    """Several at once do not get into each other's way."""
    with ThreadPoolExecutor() as pool:
        made = list(pool.map(lambda count: own_board(name=f"pi-{count}", engine=False), range(4)))
    assert {knock(board, PATIENCE) for board in made} == {b"SSH-"}
    assert len({board.address for board in made}) == 4
