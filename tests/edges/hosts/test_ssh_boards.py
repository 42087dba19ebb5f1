"""Boards over SSH: the agent starts whatever the login is like, and every refusal says what to do."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.domain.hosts.inventory import Address, Host, Kind
from coordinator.errors import LostError
from coordinator.hosts.agent.bundle import bundle
from coordinator.hosts.agent.client import connect
from coordinator.hosts.ssh.transport import SshTransport
from tests.edges.hosts.ssh_bed import agent, host, refusal, transport
from tests.services.board_lab import run
from tests.services.boards import Board
from tests.services.paths import CASES
from tests.services.ssh_home import ssh_home

OwnBoard = Callable[..., Board]
# sshd starts itself anew, and does not listen meanwhile.
_SIGNED = """cat >/root/host-cert.pub; pkill -HUP -o sshd
for _ in $(seq 200); do ssh-keyscan -c 127.0.0.1 2>/dev/null | grep -q cert && exit; sleep 0.05; done; exit 1"""
_UNTIL = "for _ in $(seq 200); do {done} && exit; sleep 0.05; done; exit 1"


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of whoever uses the boards."""
    home = tmp_path / "user"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def asked(board: Board, port: int, text: str) -> str:
    """What comes back from a port of the board's loopback."""
    script = (
        f"import socket; s = socket.create_connection(('127.0.0.1', {port}), 5); s.sendall({text!r}.encode());"
        "s.shutdown(1); print(s.makefile().read())"
    )
    return (await asyncio.to_thread(board.run, f"python3 -c {shlex.quote(script)}")).strip()


@pytest.mark.parametrize("shell", ["bash", "dash", "fish", "tcsh"])
@pytest.mark.parametrize("login", ["root", "pi"])
async def test_the_agent_starts_from_any_login_shell(own_board: OwnBoard, user: Path, shell: str, login: str):
    """Also one that prints something first, and does not end its line; the second time nothing is sent."""
    board = own_board(user=login, shell=shell, motd="Welcome to {the board}", engine=False)
    ssh_home(user, board)

    async with agent(host(board), user) as client:
        first = client.hello
        assert (await client.probe())["uname"]["system"] == "Linux"
    sent, _compiled = sorted((board.home / ".cache" / "archloom").iterdir())
    inode = sent.stat().st_ino
    async with agent(host(board), user) as client:
        assert client.hello.agent == first.agent

    assert sent.stat().st_ino == inode
    assert first.machine_id == board.machine_id


@pytest.mark.parametrize(
    "fields",
    [
        {"sftp": False},
        {"mounts": (("/tmp", "noexec"), ("/var/tmp", "noexec"))},
        {"mounts": (("/home/pi", "ro"),)},
        {"sshd": ("MaxSessions 1",)},
        {"sshd": ("MaxStartups 1:90:2",)},
    ],
    ids=lambda fields: next(iter(fields)) + str(next(iter(fields.values())))[:30],
)
async def test_the_agent_starts_where_a_board_has_its_ways(own_board: OwnBoard, user: Path, fields: dict[str, object]):
    """No SFTP, no programs in /tmp, a home that takes nothing, one session a connection, few logins at once."""
    board = own_board(user="pi", engine=False, **fields)
    ssh_home(user, board)

    async with transport(host(board), user) as way:
        client = await connect(way)
        await client.create("7f3a-amd64-1", _spec())
        tunnel = await way.listen(echo)
        # Side by side where the server lets them, else one after the other.
        images = await asyncio.gather(*(_talk(way) for _ in range(3)))
        assert await asked(board, tunnel.port, "ping") == "ping"
        await tunnel.close()
        assert all(b"archloom-agent" in said for said in images)
        assert [job.job for job in await client.jobs()] == ["7f3a-amd64-1"]
        await client.close()


async def test_packages_of_a_boards_python_are_not_loaded(own_board: OwnBoard, user: Path):
    """The agent needs none, and what they add to the start of Python may be slow, or broken."""
    board = own_board(engine=False)
    ssh_home(user, board)
    async with agent(host(board), user) as client:
        version = ".".join(client.hello.python.split(".")[:2])
    packages = board.home / f".local/lib/python{version}/site-packages"
    packages.mkdir(parents=True)
    (packages / "usercustomize.py").write_text("import os\nos._exit(7)\n")

    async with agent(host(board), user) as client:
        assert (await client.probe())["uname"]["system"] == "Linux"


async def test_a_board_behind_another_is_reached(own_board: OwnBoard, user: Path):
    """ProxyJump of ~/.ssh/config; both keys are checked; when it ends, nobody is logged in on either."""
    grant = own_board(name="door", engine=False)
    board = own_board(name="inner", behind=grant, engine=False)
    ssh_home(user, grant, board)

    async with agent(host(board), user) as client:
        assert client.hello.machine_id == board.machine_id

    grant.run(_UNTIL.format(done="[ $(pgrep -c '^sshd$') = 1 ]"))


async def test_the_ssh_configuration_is_followed(own_board: OwnBoard, user: Path, monkeypatch: pytest.MonkeyPatch):
    """Include, Match, ProxyCommand, a key that only an ssh-agent can open, and IdentityFiles that are not there."""
    grant = own_board(name="door", engine=False)
    board = own_board(name="inner", behind=grant, engine=False)
    config = ssh_home(user, grant, board)
    words = config.read_text().replace("ProxyJump door", f"ProxyCommand ssh -F {user}/plain -W %h:%p door")
    (user / "plain").write_text(config.read_text())
    (user / ".ssh" / "included").write_text(words.replace("Host inner", "Match originalhost inner exec true"))
    config.write_text("Include included\nHost *\n  IdentityFile ~/.ssh/nowhere\n")
    started = run("ssh-agent", "-s", "-a", str(user / "agent"))
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(user / "agent"))
        run("ssh-add", "-q", str(user / ".ssh" / "id_ed25519"))
        run("ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(user / ".ssh" / "id_ed25519"))

        async with agent(host(board), user) as client:
            assert client.hello.machine_id == board.machine_id
    finally:
        os.kill(int(re.findall(r"AGENT_PID=(\d+)", started)[0]), signal.SIGTERM)


async def test_a_fingerprint_finds_its_key_among_several(own_board: OwnBoard, user: Path):
    """`host_key: SHA256:…` does not say of which type the key is; known_hosts is not asked."""
    board = own_board(engine=False)
    ssh_home(user, board, trusted=False)

    async with agent(host(board, host_key=board.fingerprint), user) as client:
        assert client.hello.machine_id == board.machine_id
    async with agent(host(board, host_key=board.host_key), user) as client:
        assert client.hello.machine_id == board.machine_id


async def test_keys_that_are_unknown_changed_or_revoked_are_three_things(own_board: OwnBoard, user: Path):
    """Each names the key that was shown, and the next command; a pin cannot overrule a revocation."""
    board = own_board(name="pi-k", engine=False)
    other = run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(user / "other")) or (user / "other.pub")
    wrong = " ".join(Path(other).read_text().split()[:2])
    ssh_home(user, board, trusted=False)
    known = user / ".ssh" / "known_hosts"

    unknown = await refusal(host(board), user)
    known.write_text(f"{board.address} {wrong}\n")
    changed = await refusal(host(board), user)
    pinned = await refusal(host(board, host_key=wrong), user)
    known.write_text(f"@revoked {board.address} {board.host_key}\n")
    revoked = await refusal(host(board, host_key=board.host_key), user)
    (user / ".ssh" / "config").write_text((user / ".ssh" / "config").read_text() + "  UserKnownHostsFile none\n")

    assert [one.code for one in (unknown, changed, pinned, revoked)] == [
        "host_key_unknown",
        "host_key_changed",
        "host_key_changed",
        "host_key_revoked",
    ]
    for one in (unknown, changed, pinned):
        assert board.fingerprint in one.message
        assert one.hint.splitlines()[-1] == "archloom boards trust pi-k"
    assert "from known_hosts" in changed.message
    assert "from the inventory" in pinned.message


async def test_no_setting_of_ssh_turns_the_check_off(own_board: OwnBoard, user: Path):
    """`UserKnownHostsFile none` and `StrictHostKeyChecking no` let no unknown host in."""
    board = own_board(engine=False)
    config = ssh_home(user, board, trusted=False)
    config.write_text("UserKnownHostsFile none\nStrictHostKeyChecking no\n" + config.read_text())

    assert (await refusal(host(board), user)).code == "host_key_unknown"


async def test_hashed_names_are_known(own_board: OwnBoard, user: Path):
    """`ssh-keygen -H`, as Debian's OpenSSH writes them."""
    board = own_board(engine=False)
    ssh_home(user, board)
    known = user / ".ssh" / "known_hosts"
    run("ssh-keygen", "-q", "-H", "-f", str(known))
    assert board.address not in known.read_text()

    async with agent(host(board), user) as client:
        assert client.hello.machine_id == board.machine_id


async def test_a_host_certificate_is_good_for_who_knows_its_authority(own_board: OwnBoard, user: Path):
    """`@cert-authority` of known_hosts; without that line the host is not let in for its certificate."""
    board = own_board(engine=False, sshd=("HostCertificate /root/host-cert.pub",))
    ssh_home(user, board, trusted=False)
    (user / "host.pub").write_text(board.host_key)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(user / "ca"))
    run("ssh-keygen", "-q", "-s", str(user / "ca"), "-I", "x", "-h", "-n", board.address, str(user / "host.pub"))
    board.run(_SIGNED, stdin=(user / "host-cert.pub").read_text())

    unknown = await refusal(host(board), user)
    (user / ".ssh" / "known_hosts").write_text(f"@cert-authority 198.18.* {(user / 'ca.pub').read_text()}")
    async with agent(host(board), user) as client:
        assert client.hello.machine_id == board.machine_id

    assert unknown.code == "host_key"
    assert "@cert-authority" in unknown.hint


async def test_a_board_that_is_off_is_told_from_one_that_refuses(own_board: OwnBoard, user: Path):
    """No answer in the host's own time, a port nobody listens on, a name nobody has."""
    board = own_board(name="pi-off", engine=False)
    ssh_home(user, board)
    there = host(board, connect_timeout=1.0)

    board.unplug()
    off = await refusal(there, user)
    board.plug()
    closed = await refusal(Host(name="pi", kind=Kind.BOARD, address=Address(board.address, "root", 2222)), user)
    unnamed = await refusal(Host(name="pi", kind=Kind.BOARD, address=Address("pi.invalid")), user)

    assert {one.code for one in (off, closed, unnamed)} == {"unreachable"}
    assert "no SSH answer" in off.message
    assert "in 1 s" in off.message
    assert "nothing listens on" in closed.message
    assert "pi.invalid does not resolve" in unnamed.message


async def test_who_is_not_let_in_hears_why(own_board: OwnBoard, user: Path):
    """The wrong user, no key at all, and a key with a passphrase and no agent."""
    board = own_board(engine=False)
    config = ssh_home(user, board)
    key = user / ".ssh" / "id_ed25519"

    stranger = await refusal(Host(name="pi", kind=Kind.BOARD, address=Address(board.name, "nobody")), user)
    run("ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(key))
    locked = await refusal(host(board), user)
    key.unlink()
    keyless = await refusal(host(board), user)
    config.write_text(config.read_text().replace("Host ", "Port nine\nHost "))
    broken = await refusal(host(board), user)

    assert [one.code for one in (stranger, locked, keyless, broken)] == ["denied", "denied", "denied", "ssh_config"]
    assert "nobody@" in stranger.message
    assert "ssh-copy-id nobody@" in stranger.hint
    assert "~/.ssh/id_ed25519 has a passphrase" in locked.message
    assert "ssh-add ~/.ssh/id_ed25519" in locked.hint
    assert "no SSH key" in keyless.message
    assert "line 1" in broken.message


async def test_a_board_without_python_or_a_shell_says_so(own_board: OwnBoard, user: Path):
    """The hint is what to install; a shell that is none is quoted."""
    bare = own_board(name="bare", engine=False, hidden=("python*",))
    shut = own_board(name="shut", engine=False, sshd=('ForceCommand echo "only for backups"',))
    ssh_home(user, bare, shut)

    python, shell = await refusal(host(bare), user), await refusal(host(shut), user)

    assert (python.code, python.hint) == ("python", "on the host: sudo apt install python3")
    assert shell.code == "agent"
    assert "only for backups" in shell.message


async def test_a_board_with_no_room_says_so(own_board: OwnBoard, user: Path):
    """A home that is full is passed over for another place; where all are, that is the message."""
    board = own_board(user="pi", engine=False, disks=(("/home/pi", 8),))
    ssh_home(user, board)
    board.fill("/home/pi")

    async with agent(host(board), user) as client:
        assert client.hello.state.startswith("/var/tmp/")


async def test_what_another_user_planted_is_not_run(own_board: OwnBoard, user: Path):
    """A folder of somebody else's in a shared place, with a link of the agent's name to a file of our own."""
    board = own_board(user="pi", engine=False, mounts=(("/home/pi", "ro"),))
    ssh_home(user, board)
    bundled = bundle({"HOME": str(user)})
    board.run(
        f"d=/var/tmp/archloom-$(id -u pi); mkdir $d; f=/var/tmp/of-pi; head -c {bundled.stat().st_size} /dev/zero >$f;"
        f" chown pi $f; ln -s $f $d/{bundled.name}; chown -R nobody $d; chmod 755 $d"
    )

    async with agent(host(board), user) as client:
        assert client.hello.state.startswith("/tmp/")


async def test_jump_hosts_in_a_circle_are_a_mistake_that_is_told(own_board: OwnBoard, user: Path):
    """`Host *` with a ProxyJump is all it takes; `ssh://` is a way to write one."""
    board = own_board(engine=False)
    config = ssh_home(user, board)
    config.write_text("Host *\n  ProxyJump ssh://nobody@bastion:2222\n" + config.read_text())

    circle = await refusal(host(board), user)

    assert circle.code == "ssh_config"
    assert "form a loop" in circle.message


async def test_forwarding_that_is_forbidden_is_an_error_of_its_own(own_board: OwnBoard, user: Path):
    """`forwarding`: whoever carries an image takes another way then."""
    board = own_board(engine=False, sshd=("AllowTcpForwarding no",))
    ssh_home(user, board)

    async with transport(host(board), user) as way:
        with pytest.raises(LostError, match="forwards no ports") as refused:
            await way.listen(echo)

    assert refused.value.code == "forwarding"
    assert "AllowTcpForwarding yes" in refused.value.hint


async def test_a_lost_connection_is_noticed_and_its_sshd_is_ended(own_board: OwnBoard, user: Path):
    """A cable that is pulled: requests fail after the keepalive; the next agent frees what the last one held."""
    board = own_board(user="pi", engine=False)
    ssh_home(user, board)

    async with transport(host(board), user) as way:
        first = await connect(way)
        tunnel = await way.listen(echo)
        board.unplug()
        with pytest.raises(LostError) as lost:
            await first.probe()
        board.plug()
        second = await connect(way)
        assert tunnel.lost
        await tunnel.close()
        await second.hang_up(first.hello)
        board.run(_UNTIL.format(done=f"[ ! -e /proc/{first.hello.parent} ]"))
        await second.close()
        await first.close()

    assert lost.value.code == "connection"


async def _talk(way: SshTransport) -> bytes:
    """A bulk channel that is given nothing: the agent refuses an archive without an end."""
    channel = await way.open_bulk(("context", "7f3a-amd64-1"))
    channel.writer.write_eof()
    said = b""
    while data := await channel.reader.read(65536):
        said += data
    await channel.close()
    return said


def _spec() -> dict[str, object]:
    wire = CASES / "wire" / "requests.jsonl"
    spec: dict[str, object] = json.loads(wire.read_text().splitlines()[1])["spec"]
    return spec
