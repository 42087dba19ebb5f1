"""The SSH configuration is read as OpenSSH reads it: each file of tests/cases/ssh_config against `ssh -G`."""

from __future__ import annotations

import os
import pwd
import re
import socket
import time
from pathlib import Path

import pytest

from coordinator.domain.hosts.inventory import Address
from coordinator.errors import UsageError
from coordinator.hosts.ssh import config
from coordinator.hosts.ssh.known_hosts import parse_key
from coordinator.hosts.ssh.options import connection_options
from coordinator.hosts.ssh.route import Route, read_route
from tests.services.board_lab import run
from tests.services.commands import run_limited
from tests.services.missing import program
from tests.services.paths import CASES

FILES = sorted((CASES / "ssh_config").glob("*.conf"))
HEAD = re.compile(r"# (hosts|refused): (.*)")
ENVIRON = {"ARCHLOOM_TEST_KEYS": "/keys", "ARCHLOOM_TEST_AGENT": "/run/agent.sock"}
# The default key files of OpenSSH, which `ssh -G` prints like chosen ones.
DEFAULTS = {"id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_xmss", "id_dsa"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def write(case: Path, home: Path, *, spell_out: bool = False) -> Path:
    """Write the files of a case into `home/.ssh`.

    OpenSSH takes the home from the password file: for it, `spell_out` writes no `~`, no `%d` and no relative names.
    """
    parts = re.split(r"^==> (.*) <==\n", case.read_text(), flags=re.MULTILINE)
    for name, text in {"config": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}.items():
        path = home / ".ssh" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(spelled_out(text, home) if spell_out else text)
    return home / ".ssh" / "config"


def spelled_out(text: str, home: Path) -> str:
    text = text.replace("~/", f"{home}/").replace("%d", str(home))
    return re.sub(r"(?<=Include )(.*)", lambda names: absolute(names[1], home), text)


def absolute(names: str, home: Path) -> str:
    return " ".join(
        name if "/" in name[:2] else re.sub(r'^("?)', rf"\g<1>{home}/.ssh/", name)
        for name in re.findall(r'"[^"]*"|\S+', names)
    )


def ssh(home: Path, config: Path, host: str) -> dict[str, list[str]]:
    """Return what `ssh -G` prints, by keyword; nothing where it refuses the configuration."""
    printed = run_limited([program("ssh"), "-G", "-F", config, host], capture_output=True, text=True, check=False)
    found: dict[str, list[str]] = {}
    for line in printed.stdout.splitlines() if printed.returncode == 0 else ():
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    return found


def expanded(text: str, judged: dict[str, list[str]], host: str) -> str:
    """Expand the tokens that `ssh -G` prints as they are written."""
    tokens = {"n": host, "h": judged["hostname"][0], "p": judged["port"][0], "r": judged["user"][0], "%": "%"}
    text = re.sub(r"%([nhpr%])", lambda token: tokens[token[1]], text)
    return re.sub(r"\$\{(\w+)\}", lambda name: os.environ[name[1]], text)


def expected(judged: dict[str, list[str]], host: str) -> dict[str, object]:
    def first(key: str) -> str:
        return expanded(next(iter(judged.get(key, [])), ""), judged, host)

    files = [name for name in judged.get("identityfile", []) if name != "none" and Path(name).name not in DEFAULTS]
    agent = first("identityagent")
    return {
        "host": first("hostname"),
        "port": int(first("port")),
        "user": first("user"),
        "identities": [expanded(name, judged, host) for name in files],
        "only": first("identitiesonly") == "yes",
        "agent": {"none": "", "SSH_AUTH_SOCK": ""}.get(agent, ENVIRON.get(agent.removeprefix("$"), agent)),
        "jump": first("proxyjump"),
        "proxy": first("proxycommand").removeprefix("none"),
        "alias": first("hostkeyalias"),
        "known_hosts": known_hosts(first("userknownhostsfile")) + known_hosts(first("globalknownhostsfile")),
    }


def known_hosts(printed: str) -> str:
    # The default files are the only ones that `ssh -G` takes from the password file's home.
    printed = re.sub(rf"(?<!\S){re.escape(pwd.getpwuid(os.getuid()).pw_dir)}/", "~/", printed)
    return "".join(f"{name} " for name in [printed.removeprefix("none")] if name)


def chain(route: Route) -> list[Route]:
    return [] if route.jump is None else [*chain(route.jump), route.jump]


def as_read(route: Route, home: Path) -> dict[str, object]:
    known = " ".join(map(str, route.known_hosts))
    return {
        "host": route.host,
        "port": route.port,
        "user": route.user,
        "identities": [str(path) for path in route.identities] if route.chosen else [],
        "only": route.only,
        "agent": route.agent,
        "jump": ",".join(jump.entry.removeprefix("ssh://") for jump in chain(route)),
        "proxy": route.proxy,
        "alias": route.alias,
        "known_hosts": known.replace(f"{home}/.ssh/known_hosts", "~/.ssh/known_hosts") + " " * bool(known),
    }


@pytest.mark.parametrize("case", FILES, ids=lambda case: case.stem)
def test_as_openssh(case: Path, home: Path):
    """Each host of the case, or that both refuse the configuration."""
    head = HEAD.match(case.read_text())
    assert head is not None
    judged_home = home / "judged"
    config = write(case, judged_home, spell_out=True)
    write(case, home)
    for host in head[2].split():
        judged = ssh(judged_home, config, host)
        assert bool(judged) == (head[1] == "hosts")
        if not judged:
            with pytest.raises(UsageError):
                read_route(Address(host=host), home, system=home / "none")
            continue
        route = as_read(read_route(Address(host=host), home, system=home / "none"), home)
        wanted = {key: replaced(value, judged_home, home) for key, value in expected(judged, host).items()}
        assert route == wanted, host


def replaced(value: object, old: Path, new: Path) -> object:
    if isinstance(value, list):
        return [replaced(item, old, new) for item in value]
    return value.replace(str(old), str(new)) if isinstance(value, str) else value


def test_the_system_file_comes_after_the_users(home: Path):
    """Its relative names are in its own folder."""
    system = home / "etc"
    (system / "ssh_config.d").mkdir(parents=True)
    (home / ".ssh").mkdir()
    (home / ".ssh" / "config").write_text("Host pi5\n  User mine\n")
    (system / "ssh_config").write_text("Include ssh_config.d/*.conf\nUser theirs\n")
    (system / "ssh_config.d" / "a.conf").write_text("Match final host pi5\n  Port 2222\n")

    route = read_route(Address(host="pi5"), home, system=system)

    assert (route.user, route.port) == ("mine", 2222)


def test_an_address_comes_before_the_configuration(home: Path):
    """As with `ssh -l USER -p PORT`, also for Match."""
    (home / ".ssh").mkdir()
    (home / ".ssh" / "config").write_text("Match user root\n  HostKeyAlias ofroot\nPort 2222\nUser pi\n")

    route = read_route(Address("pi5", "root", 24), home, system=home / "none")

    assert (route.user, route.port, route.alias) == ("root", 24, "ofroot")


async def test_asyncssh_is_given_the_other_values(home: Path):
    """Algorithms that asyncssh does not have are passed over; what is for a terminal is not taken over."""
    folder = home / ".ssh"
    folder.mkdir()
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(folder / "locked"))
    (folder / "config").write_text(
        "Ciphers unheard-of,aes256-ctr\nKexAlgorithms +unheard-of\nMACs -hmac-sha1\nHostKeyAlgorithms ssh-ed25519\n"
        "AddressFamily inet\nRekeyLimit 1G none\nCompression no\nPubkeyAuthentication unbound\nSetEnv A=b C=d\n"
        "IdentityFile ~/.ssh/absent\nIdentityFile ~/.ssh/locked\nIdentitiesOnly yes\nCertificateFile ~/.ssh/absent\n"
        "RequestTTY force\nRemoteCommand tmux\nForwardAgent yes\nConnectTimeout 1m\n"
    )

    options = await connection_options(read_route(Address("pi5", "pi"), home, system=home / "none"), None, "aes128-ctr")

    assert options.encryption_algs == [b"aes256-ctr"]
    assert b"hmac-sha1" not in options.mac_algs
    assert options.config.get("HostKeyAlgorithms") == "ssh-ed25519"
    assert (options.family, options.rekey_bytes, options.rekey_seconds) == (socket.AF_INET, 1 << 30, None)
    assert (options.env, options.public_key_auth, options.compression_algs[0]) == (["A=b", "C=d"], True, b"none")
    key = parse_key((folder / "locked.pub").read_text())
    assert key is not None
    assert options.agent_identities == [key.blob]
    assert (options.client_keys, options.command, options.request_pty) == ([], None, True)
    assert (options.host, options.port, options.username) == ("pi5", 22, "pi")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Host a\n  ProxyJump a\n", "form a loop"),
        ("Host a\n  IdentityFile ~nosuch/key\n", "there is no user of ~nosuch/key"),
        ("Include config\n", "included too deeply"),
        ('Host "a\n', "unclosed quote"),
        ("Host a\n  Port many\n", "line 2: Port many"),
        ("Host a\n  IdentityFile ${ARCHLOOM_TEST_NONE}/id\n", "ARCHLOOM_TEST_NONE"),
        ("Host a\n  IdentityFile ~/%x\n", "%x in"),
        ("Match localnetwork 10.0.0.0/8\n", "line 1: Match localnetwork"),
    ],
)
def test_what_is_refused_is_named(home: Path, text: str, message: str):
    """It is an error of the user's file."""
    (home / ".ssh").mkdir()
    (home / ".ssh" / "config").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_route(Address(host="a"), home, system=home / "none")


def test_a_match_exec_that_does_not_end_is_ended_with_all_it_started(tmp_path: Path):
    """ssh itself would wait for it, and so would every connection."""
    started = tmp_path / "started"

    with pytest.raises(ValueError, match="did not end within 1 s"):
        config._succeeds(f"sleep 611 & echo $! >{started}; wait", 1.0)

    until = time.monotonic() + 10
    while b"sleep" in _command_line(int(started.read_text())):
        assert time.monotonic() < until
        time.sleep(0.01)


def _command_line(pid: int) -> bytes:
    """Empty for a process that is gone, or dead and not yet waited for by its new parent."""
    path = Path(f"/proc/{pid}/cmdline")
    return path.read_bytes() if path.exists() else b""
