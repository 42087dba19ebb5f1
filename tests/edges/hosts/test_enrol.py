"""`boards add`, `trust` and `remove --purge` against real boards, as a person types them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coordinator.config.load import load
from tests.acceptance.archloom import COMMAND, Home
from tests.services.board_lab import run
from tests.services.boards import Board
from tests.services.commands import Child, run_limited
from tests.services.ssh_home import ssh_home
from tests.services.terminal import CTRL_C, Terminal, terminal

PASSWORD = "correct horse ü"
OwnBoard = Callable[..., Board]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    folder = tmp_path / "home"
    folder.mkdir()
    return Home(folder)


@contextmanager
def typed(home: Home, *words: str) -> Iterator[Terminal]:
    environment = {**home.environment, "TERM": "dumb", "LOGNAME": "ada"}
    with terminal([COMMAND, *words], environment, home.folder) as at:
        yield at


def inventory(home: Home) -> Path:
    return home.folder / ".config" / "archloom" / "inventory.yaml"


def keys(board: Board) -> list[str]:
    path = board.home / ".ssh" / "authorized_keys"
    return path.read_text().splitlines() if path.exists() else []


def named_after_us(board: Board) -> set[str]:
    """Files that may be ours; a board's disk lies over this machine's, which has checkouts and their environments."""
    return set(board.run("find / -xdev -name '*archloom*' 2>/dev/null; true").split())


@pytest.mark.parametrize("shell", ["bash", "fish", "tcsh", "dash"])
def test_from_a_password_to_an_entry(home: Home, own_board: OwnBoard, shell: str):
    """Asked once each: the host key and the password. A key is made, installed, proved and pinned; comments stay."""
    board = own_board(
        name="pi5", user="pi", shell=shell, motd="hello! ", authorized=False, password=PASSWORD, engine=False
    )
    with typed(home, "boards", "add", "--name", "pi5", f"pi@{board.address}") as at:
        at.expect(board.fingerprint)
        at.expect("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")
        at.answer("Is it the same? [y/N]", "y")
        at.answer("without a passphrase? [y/N]", "y")
        at.answer("Password of pi@", PASSWORD)
        at.expect("installed the key ~/.ssh/id_ed25519")
        assert at.end() == 5, at.shown  # no engine yet
    assert "pi5: the container engine is installed, but is not running" in at.shown
    assert "hint: sudo systemctl start docker" in at.shown
    assert PASSWORD not in at.shown
    made = load(inventory(home)).host("pi5")
    assert made is not None
    assert made.host_key == board.host_key
    assert load(inventory(home)).host("local") is not None
    public = (home.folder / ".ssh" / "id_ed25519.pub").read_text().split()[:2]
    (line,) = keys(board)
    assert line.split()[:2] == public
    assert line.split()[2].startswith("archloom:")
    ssh = board.home / ".ssh"
    assert (ssh.stat().st_mode & 0o777, (ssh / "authorized_keys").stat().st_mode & 0o777) == (0o700, 0o600)
    assert run("ssh-keygen", "-lf", str(home.folder / ".ssh" / "id_ed25519")).split()[3] == "(ED25519)"


def test_a_host_key_needs_a_word(home: Home, own_board: OwnBoard):
    """Without a terminal nothing is trusted, `--yes` or not: the command that would be is told, and works."""
    board = own_board(name="pi5", engine=False)
    ssh_home(home.folder, board, trusted=False)
    refused = home.run("boards", "add", "--yes", "pi5")
    assert refused.returncode == 2
    command = f"archloom boards add pi5 --host-key {board.fingerprint}"
    assert command in refused.stderr
    wrong = home.run("boards", "add", "pi5", "--host-key", f"SHA256:{'A' * 43}")
    assert wrong.returncode == 2
    assert board.fingerprint in wrong.stderr
    assert f"expected SHA256:{'A' * 43}" in wrong.stderr
    assert not inventory(home).exists()
    right = home.run(*command.split()[1:])
    assert right.returncode == 5, right.stderr
    assert load(inventory(home)).host("pi5").host_key == board.host_key


@pytest.mark.parametrize("hashed", [False, True])
def test_a_known_host_key_is_not_asked_about(home: Home, own_board: OwnBoard, hashed: bool):  # noqa: FBT001
    """known_hosts is enough, with hashed names too; a key that changed is refused with both fingerprints."""
    board = own_board(name="pi5", engine=False)
    ssh_home(home.folder, board)
    known = home.folder / ".ssh" / "known_hosts"
    if hashed:
        run("ssh-keygen", "-H", "-f", str(known))
    before = board.fingerprint
    added = home.run("boards", "add", "pi5")
    assert added.returncode == 5, added.stderr
    assert "the one in known_hosts" in added.stderr
    inventory(home).unlink()
    board.new_host_key()
    changed = home.run("boards", "add", "pi5")
    assert changed.returncode == 5
    assert before in changed.stderr
    assert board.fingerprint in changed.stderr
    assert not inventory(home).exists()


def test_ctrl_c_leaves_nothing(home: Home, own_board: OwnBoard):
    """At each question: nothing is written on either side."""
    board = own_board(name="pi5", user="pi", authorized=False, password=PASSWORD, engine=False)
    answers = (("Is it the same?", "y"), ("without a passphrase?", "y"), ("Password of", ""))
    for count in range(len(answers)):
        with typed(home, "boards", "add", f"pi@{board.address}") as at:
            for question, text in answers[:count]:
                at.answer(question, text)
            at.expect(answers[count][0])
            at.expect(" ")
            at.type(CTRL_C)
            assert at.end() == 130, at.shown
    assert not (home.folder / ".ssh").exists()
    assert not inventory(home).exists()
    assert keys(board) == []


def test_the_line_joins_those_that_are_there(home: Home, own_board: OwnBoard):
    """A last line without an end is ended; nothing is said twice; --purge takes exactly our line away again."""
    board = own_board(name="pi5", user="pi", authorized=False, password=PASSWORD, engine=False)
    board.run("mkdir -p /home/pi/.ssh; printf '# mine\\nssh-rsa AAAA bob' >/home/pi/.ssh/authorized_keys")
    board.run("chown -R pi: /home/pi/.ssh")
    before = named_after_us(board)
    with typed(home, "boards", "add", "--yes", "--name", "pi5", f"pi@{board.address}") as at:
        at.answer("Is it the same?", "y")
        at.answer("Password of", PASSWORD)
        assert at.end() == 5, at.shown
    assert keys(board)[:2] == ["# mine", "ssh-rsa AAAA bob"]
    assert len(keys(board)) == 3
    removed = home.run("boards", "remove", "pi5", "--purge", environment={"LOGNAME": "ada"})
    assert removed.returncode == 0, removed.stderr
    assert keys(board) == ["# mine", "ssh-rsa AAAA bob"]
    assert load(inventory(home)).host("pi5") is None
    assert named_after_us(board) == before


def test_no_key_fits_and_no_password_helps(home: Home, own_board: OwnBoard):
    """A host that takes keys alone says which were offered, and what to add where."""
    board = own_board(
        name="pi5",
        user="pi",
        authorized=False,
        engine=False,
        sshd=("PasswordAuthentication no", "KbdInteractiveAuthentication no"),
    )
    ssh_home(home.folder, board)
    refused = home.run("boards", "add", "pi5")
    assert refused.returncode == 5
    assert "accepts only publickey, and none of your keys (offered: " in refused.stderr
    assert Path(f"{board.key}.pub").read_text().split()[1] in refused.stderr


def test_a_passphrase_needs_an_agent(home: Home, own_board: OwnBoard):
    """A key that cannot be used is named with the command that opens it."""
    board = own_board(name="pi5", engine=False)
    ssh_home(home.folder, board)
    key = home.folder / ".ssh" / "id_ed25519"
    run("ssh-keygen", "-p", "-f", str(key), "-N", "secret", "-P", "")
    refused = home.run("boards", "add", "pi5")
    assert refused.returncode == 5
    assert "ssh-add ~/.ssh/id_ed25519" in refused.stderr
    socket = home.folder / "agent"
    agent = Child(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        asks = home.folder / "ask"
        asks.write_text("#!/bin/sh\necho secret\n")
        asks.chmod(0o700)
        env = {
            **home.environment,
            "SSH_AUTH_SOCK": str(socket),
            "SSH_ASKPASS": str(asks),
            "SSH_ASKPASS_REQUIRE": "force",
        }
        for _ in range(200):
            if socket.exists():
                break
            run_limited(["sleep", "0.02"], check=True)
        run_limited(["ssh-add", str(key)], env=env, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        added = home.run("boards", "add", "pi5", environment={"SSH_AUTH_SOCK": str(socket)})
    finally:
        agent.terminate()
        agent.wait(60)
    assert added.returncode == 5, added.stderr
    assert "login works with the key" in added.stderr


def test_behind_a_jump_host(home: Home, own_board: OwnBoard):
    """ProxyJump of an included file leads through the jump host, as with ssh."""
    jump = own_board(name="jump", engine=False)
    board = own_board(name="pi5", engine=False, behind=jump)
    config = ssh_home(home.folder, jump, board)
    hosts = config.with_name("farm.conf")
    config.rename(hosts)
    config.write_text("Include farm.conf\nHost *\n    User nobody\n")
    added = home.run("boards", "add", "pi5")
    assert added.returncode == 5, added.stderr
    assert load(inventory(home)).host("pi5").host_key == board.host_key


def test_through_a_proxy_command(home: Home, own_board: OwnBoard):
    """ProxyCommand is run as ssh runs it."""
    jump = own_board(name="jump", engine=False)
    board = own_board(name="pi5", engine=False, behind=jump)
    config = ssh_home(home.folder, jump, board)
    proxied = config.with_name("proxied")
    proxied.write_text(config.read_text())
    command = f"ProxyCommand ssh -F {proxied} -W %h:%p jump"
    config.write_text(config.read_text().replace("ProxyJump jump", command))
    added = home.run("boards", "add", "pi5")
    assert added.returncode == 5, added.stderr
    assert load(inventory(home)).host("pi5").host_key == board.host_key


def test_trust_after_a_new_key(home: Home, own_board: OwnBoard):
    """Both fingerprints are shown; one line of the inventory changes, and known_hosts does not."""
    board = own_board(name="pi5", engine=False)
    ssh_home(home.folder, board)
    assert home.run("boards", "add", "pi5").returncode == 5
    same = home.run("boards", "trust", "pi5")
    assert (same.returncode, "nothing to do" in same.stderr) == (0, True), same.stderr
    known = (home.folder / ".ssh" / "known_hosts").read_bytes()
    before, old = inventory(home).read_text(), board.host_key
    first = board.fingerprint
    board.new_host_key()
    asked = home.run("boards", "trust", "pi5")
    assert asked.returncode == 2
    assert f"archloom boards trust pi5 --host-key {board.fingerprint}" in asked.stderr
    with typed(home, "boards", "trust", "pi5") as at:
        at.expect(first)
        at.expect(board.fingerprint)
        at.answer("Is it the same?", "y")
        assert at.end() == 0, at.shown
    assert inventory(home).read_text() == before.replace(old, board.host_key)
    assert (home.folder / ".ssh" / "known_hosts").read_bytes() == known
    shown = home.run("boards")  # whatever known_hosts says
    assert "blocked" in shown.stdout
    assert "unreachable" not in shown.stdout


@pytest.mark.parametrize(
    ("target", "code", "message"),
    [
        ("pi@no-such-board.invalid", 5, "does not resolve"),
        ("ssh://pi@127.0.0.1:1", 5, "nothing listens on 127.0.0.1 port 1"),
        ("pi:secret@host", 2, "a password does not belong here"),
        ("host:22", 2, "did you mean ssh://host:22?"),
    ],
)
def test_what_cannot_be_reached(home: Home, target: str, code: int, message: str):
    """Each has its own sentence, and nothing is written."""
    refused = home.run("boards", "add", target)
    assert refused.returncode == code
    assert message in refused.stderr
    assert "hint: " in refused.stderr or code == 2
    assert list(home.folder.iterdir()) == []


def test_names_and_machines_are_listed_once(home: Home):
    """A taken name or machine is told with its line before anything is asked."""
    file = home.folder / "inventory.yaml"
    file.write_text("boards:\n  pi5: pi@10.0.0.5\nemulators: {local: local}\n")
    taken = home.run("boards", "add", "pi5.lan")
    assert (taken.returncode, "inventory.yaml:2: host pi5 is already listed" in taken.stderr) == (2, True), taken.stderr
    same = home.run("boards", "add", "--name", "other", "pi@10.0.0.5")
    assert (same.returncode, "inventory.yaml:2: pi5 already is this machine" in same.stderr) == (2, True), same.stderr
    unknown = home.run("boards", "remove", "pi6")
    assert (unknown.returncode, "did you mean pi5?" in unknown.stderr) == (2, True), unknown.stderr
    removed = home.run("boards", "remove", "pi5")
    assert removed.returncode == 0, removed.stderr
    assert file.read_text() == "boards:\nemulators: {local: local}\n"


@pytest.mark.parametrize(
    ("fields", "message", "hint"),
    [
        ({"mounts": (("/home/pi", "ro"),)}, "Read-only file system", "make its home writable"),
        ({"disks": (("/home/pi", 8),)}, "No space left on device", "make room on it"),
        ({"sshd": ("ForceCommand echo closed",)}, "does not run commands; it said: closed", "usermod -s /bin/sh"),
        ({"sshd": ("AuthorizedKeysFile /etc/keys/%u",)}, "is not accepted; it was removed again", "authorizedkeysfile"),
    ],
)
def test_a_key_that_cannot_be_installed(home: Home, own_board: OwnBoard, fields: dict, message: str, hint: str):
    """Each reason has its words and its cure, and nothing is left behind."""
    board = own_board(name="pi5", user="pi", authorized=False, password=PASSWORD, engine=False, **fields)
    if "disks" in fields:
        board.run("chown pi: /home/pi")
        board.fill("/home/pi")
    with typed(home, "boards", "add", "--yes", f"pi@{board.address}") as at:
        at.answer("Is it the same?", "y")
        at.answer("Password of", PASSWORD)
        assert at.end() == 5, at.shown
    assert message in at.shown
    assert hint in at.shown
    assert not inventory(home).exists()
    assert "archloom" not in board.run("cat /home/pi/.ssh/* 2>/dev/null || true")
    assert board.run("ls /home/pi/.ssh/authorized_keys.archloom 2>/dev/null || true") == ""


def test_no_answer_costs_its_timeout_alone(home: Home, own_board: OwnBoard):
    """A board that is unplugged is told from one that refuses."""
    board = own_board(name="pi5", engine=False)
    board.unplug()
    refused = home.run("boards", "add", board.address)
    assert refused.returncode == 5
    assert f"no SSH answer from {board.address} port 22 in 5 s" in refused.stderr


def test_a_board_without_python_is_added_and_told(home: Home, own_board: OwnBoard):
    """SSH works, so the entry is there for when the cure was run."""
    board = own_board(name="pi5", engine=False, hidden=("python*", "pypy*"))
    ssh_home(home.folder, board)
    added = home.run("boards", "add", "pi5")
    assert added.returncode == 5
    assert "sudo apt install python3" in added.stderr
    assert load(inventory(home)).host("pi5") is not None


def test_more_keys_than_the_server_looks_at(home: Home, own_board: OwnBoard):
    """sshd hangs up after six: the seventh is offered on the next connection."""
    board = own_board(name="pi5", engine=False)
    config = ssh_home(home.folder, board)
    names = [f"~/.ssh/other{number}" for number in range(7)]
    for name in names:
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home.folder / name.removeprefix("~/")))
    listed = "".join(f"    IdentityFile {name}\n" for name in names)
    config.write_text(config.read_text().replace("    IdentityFile", f"{listed}    IdentityFile", 1))
    added = home.run("boards", "add", "pi5")
    assert "login works with the key ~/.ssh/id_ed25519" in added.stderr, added.stderr


def test_a_file_that_cannot_be_written_is_pasted_into(home: Home, own_board: OwnBoard):
    """The lines are told, with the key that was confirmed."""
    board = own_board(name="pi5", engine=False)
    ssh_home(home.folder, board)
    file = home.folder / "inventory.yaml"
    file.write_text("emulators:\n  local: local\n")
    run("chattr", "+i", str(file))
    try:
        refused = home.run("boards", "add", "pi5")
    finally:
        run("chattr", "-i", str(file))
    assert refused.returncode == 2
    assert f"boards:\n        pi5:\n          host: pi5\n          host_key: {board.host_key}" in refused.stderr
    assert file.read_text() == "emulators:\n  local: local\n"
    assert [path.name for path in home.folder.glob("*inventory*")] == [file.name]


def test_this_machine(home: Home):
    """`local` needs no SSH, and no second file of hosts."""
    added = home.run("boards", "add", "--emulator", "local")
    assert added.returncode == 0, added.stderr
    assert [host.name for host in load(inventory(home)).hosts] == ["local"]
    again = home.run("boards", "add", "--emulator", "local")
    assert (again.returncode, "nothing to do" in again.stderr) == (0, True), again.stderr
    board = home.run("boards", "add", "local")
    assert (board.returncode, "host local is already listed" in board.stderr) == (2, True), board.stderr
    nowhere = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}  # this machine's engine is everybody's
    removed = home.run("boards", "remove", "local", "--purge", environment=nowhere)
    assert removed.returncode == 0, removed.stderr
    assert "no host is left in it" in removed.stderr
    left = {path.name for path in home.folder.rglob("*") if "agent" in path.name}
    assert left == set()
