"""Ways to a board that lead nowhere: `boards` and `boards add` say the same of each, and neither waits long."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from coordinator.hosts.ssh.proxy_command import ProxyCommand
from tests.acceptance.archloom import Home
from tests.edges.hosts.test_enrol import PASSWORD, home, typed
from tests.edges.hosts.test_logins import ssh_agent
from tests.services.boards import Board
from tests.services.ssh_home import ssh_home

__all__ = ["home"]
OwnBoard = Callable[..., Board]
OFF = "198.18.255.1"  # of the boards' network, where nothing is


@contextmanager
def listening(*words: bytes) -> Iterator[int]:
    """A port that takes connections and says these words to each, or nothing."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        server.settimeout(60)
        if words:
            import threading

            def serve() -> None:
                while True:
                    try:
                        accepted = stack.enter_context(server.accept()[0])
                    except OSError:
                        return
                    for word in words:
                        accepted.sendall(word)

            thread = threading.Thread(target=serve)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown, socket.SHUT_RDWR)
        yield server.getsockname()[1]


def both(home: Home, config: str, key: str) -> tuple[str, str]:
    """What `boards` and `boards add` say of the host `pi5` that this SSH configuration leads to."""
    folder = home.folder / ".ssh"
    folder.mkdir(exist_ok=True)
    (folder / "config").write_text(config)
    (home.folder / "inventory.yaml").write_text(f"boards:\n  pi5: {{host: pi5, host_key: {key}}}\n")
    shown = home.run("boards", "--refresh", "pi5")
    (home.folder / "inventory.yaml").unlink()
    added = home.run("boards", "add", "pi5")
    assert added.returncode == 5, added.stderr
    return shown.stdout + shown.stderr, added.stderr


KEY = f"SHA256:{'A' * 43}"


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("ProxyCommand nowhere-to-be-found %h", "the ProxyCommand for pi5 failed: "),
        ("ProxyCommand echo 'no route' >&2; exit 7", "the ProxyCommand for pi5 failed: no route: "),
        ("ProxyCommand sh -c 'exit 7'", "the ProxyCommand for pi5 failed: exit status 7: sh -c 'exit 7'"),
        ("ProxyCommand sleep 600", "the ProxyCommand for pi5 failed: it has not answered: sleep 600"),
        ("ProxyJump ada@127.0.0.1:1", "jump host ada@127.0.0.1:1: nothing listens on 127.0.0.1 port 1"),
        ("ProxyJump nobody.invalid", "jump host nobody.invalid: the name nobody.invalid does not resolve"),
        ("HostName 127.0.0.1\n  Port 1", "nothing listens on 127.0.0.1 port 1"),
    ],
    ids=lambda value: value[:28],
)
def test_a_way_that_fails_is_said_alike(home: Home, config: str, sentence: str):
    shown, added = both(home, f"Host pi5\n  {config}\n", KEY)

    assert sentence in " ".join(shown.split())
    assert sentence in " ".join(added.split())


def test_a_jump_host_that_refuses_or_leads_nowhere_is_said_alike(home: Home, own_board: OwnBoard):
    jump = own_board(name="door", engine=False)
    way = ssh_home(home.folder, jump).read_text()

    shown, added = both(home, f"{way}Host pi5\n  HostName 127.0.0.1\n  Port 1\n  ProxyJump door\n", KEY)
    assert "jump host door cannot reach 127.0.0.1 port 1: " in shown
    assert "jump host door cannot reach 127.0.0.1 port 1: " in added

    way = way.replace("User root", "User nobody")
    shown, added = both(home, f"{way}Host pi5\n  HostName 127.0.0.1\n  Port 1\n  ProxyJump door\n", KEY)
    assert "jump host door: nobody@" in shown
    assert "jump host door: nobody@" in added


def test_a_port_that_says_nothing_costs_the_hosts_timeout(home: Home):
    """Dead is who sends no version line within five seconds, also where something takes the connection."""
    with listening() as port:
        shown, added = both(home, f"Host pi5\n  HostName 127.0.0.1\n  Port {port}\n", KEY)

    assert f"no SSH answer from 127.0.0.1 port {port} in 5 s" in shown
    assert f"no SSH answer from 127.0.0.1 port {port} in 5 s" in added


def test_a_service_that_is_not_ssh_is_no_bug(home: Home):
    """Whatever its bytes."""
    with listening(b"220 f\xfcr Post\r\n" * 10, b"\x00\xff" * 20_000) as port:
        shown, added = both(home, f"Host pi5\n  HostName 127.0.0.1\n  Port {port}\n", KEY)

    for said in (shown, added):
        assert f"127.0.0.1 port {port} answers, but not with" in said
        assert "bug" not in said


def test_lines_before_the_version_are_skipped(home: Home, own_board: OwnBoard):
    """Through a ProxyCommand that prints warnings too, on both of its outputs."""
    board = own_board(name="pi5", engine=False)
    config = ssh_home(home.folder, board)
    noisy = r"printf 'f\374r alle\r\n'; echo 'Warning: added' >&2; exec ssh -F %s -W %%h:%%p pi5"
    plain = config.with_name("plain")
    plain.write_text(config.read_text())
    config.write_text(config.read_text() + f'  ProxyCommand sh -c "{noisy % plain}"\n')

    added = home.run("boards", "add", "pi5")

    assert added.returncode == 5, added.stderr
    assert "login works with the key" in added.stderr
    assert "the container engine is installed, but is not running" in added.stderr


def test_more_keys_in_the_agent_than_sshd_looks_at(home: Home, own_board: OwnBoard, tmp_path: Path):
    """Enrolment offers the rest on new connections; a build cannot, and the setting that helps is in the hint."""
    board = own_board(name="pi5", engine=False)
    config = ssh_home(home.folder, board)
    text = config.read_text().replace("IdentitiesOnly yes", "IdentitiesOnly no").replace("IdentityFile", "#")
    config.write_text(text)
    key = home.folder / ".ssh" / "id_ed25519"
    keys = tmp_path / "keys"
    keys.mkdir()
    with ssh_agent(keys, 7, key) as agent:
        key.unlink()
        added = home.run("boards", "add", "pi5", environment={"SSH_AUTH_SOCK": str(agent)})

    assert "login works with the key" in added.stderr, added.stderr
    assert "too many keys were offered" in added.stderr
    assert "IdentitiesOnly yes" in added.stderr


@pytest.mark.parametrize(
    ("start", "sentence"),
    [
        ("echo Hello; sleep 1000", "its login shell has not run a command in 9 s; it printed: Hello"),
        ("yes no", "its login shell prints more than 64 KiB before it runs a command: n"),
        ("echo bye; exit 0", "it said: bye"),
    ],
)
def test_a_login_shell_that_takes_no_key_is_said(home: Home, own_board: OwnBoard, start: str, sentence: str):
    board = own_board(name="pi5", user="pi", authorized=False, password=PASSWORD, engine=False)
    (board.home / ".bashrc").write_text(f"{start}\n")
    with typed(home, "boards", "add", "--yes", f"pi@{board.address}") as at:
        at.answer("Is it the same?", "yes")
        at.answer("Password of", PASSWORD)
        assert at.end() == 5, at.shown

    assert sentence in at.shown
    assert os.path.exists(home.folder / ".ssh" / "id_ed25519")  # noqa: PTH110


def test_a_proxy_command_may_be_closed_by_several_threads():
    """paramiko closes it in its own thread while ours does: both get its last words, once it has ended."""
    for _ in range(20):
        proxy = ProxyCommand("sh -c 'echo gone >&2; kill $$; sleep 600'")
        proxy.socket.recv(1)  # its end
        with ThreadPoolExecutor(4) as pool:
            words = {closing.result() for closing in [pool.submit(proxy.close) for _ in range(4)]}
        assert words == {"gone"}
