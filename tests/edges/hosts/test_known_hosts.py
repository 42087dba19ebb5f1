"""known_hosts is read as OpenSSH reads it: each case is put to `ssh`, which connects to a server with the key."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest

from coordinator.errors import LostError
from coordinator.hosts.ssh.known_hosts import HostKey, KnownHosts, Verdict, parse_key, read_known_hosts
from coordinator.hosts.ssh.route import Route
from tests.services.board_lab import run
from tests.services.commands import run_limited
from tests.services.missing import program

# How ssh's refusal, or the login that it gets to, begins.
SAID = (
    ("is marked as revoked", Verdict.REVOKED),
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", Verdict.CHANGED),
    ("host key is known for", Verdict.UNKNOWN),
    ("Permission denied", Verdict.KNOWN),
)
# The file, the host, its port, HostKeyAlias. {KEY} is the server's key, {OTHER} another one.
CASES = [
    ("", "pi5", 22, ""),
    ("pi5 {KEY} comment of mine\n", "pi5", 22, ""),
    ("pi5 {OTHER}\n", "pi5", 22, ""),
    ("pi4 {KEY}\n", "pi5", 22, ""),
    ("pi5 {OTHER}\npi5 {KEY}\n", "pi5", 22, ""),
    ("PI5 {KEY}\n", "pi5", 22, ""),
    ("pi5 {KEY}\n", "PI5", 22, ""),
    ("pi4,pi5,10.0.0.5 {KEY}\n", "pi5", 22, ""),
    ("# mine\n\nbroken line\npi9 ssh-ed25519 ???\npi5\n@revoked\n  pi5 {KEY}\n", "pi5", 22, ""),
    ("# pi5 {KEY}\n#pi5 {KEY}\n", "pi5", 22, ""),
    ("# pi steht größer\npi4 ssh-ed25519 größer\npi5 {KEY}\n", "pi5", 22, ""),
    ("pi? {KEY}\n", "pi5", 22, ""),
    ("*.lan,!bad.lan {KEY}\n", "good.lan", 22, ""),
    ("*.lan,!bad.lan {KEY}\n", "bad.lan", 22, ""),
    ("!bad.lan {KEY}\n", "good.lan", 22, ""),
    ("[pi5]:2222 {KEY}\n", "pi5", 2222, ""),
    ("[pi5]:2222 {KEY}\n", "pi5", 22, ""),
    ("[pi5]:2222 {KEY}\n", "pi5", 2223, ""),
    ("[pi5]:* {KEY}\n", "pi5", 2223, ""),
    ("pi5 {KEY}\n", "pi5", 2222, ""),
    ("pi5 {OTHER}\n", "pi5", 2222, ""),
    ("[pi5]:2222 {OTHER}\npi5 {KEY}\n", "pi5", 2222, ""),
    ("[pi5]:2222 {KEY}\npi5 {OTHER}\n", "pi5", 2222, ""),
    ("@revoked * {KEY}\npi5 {KEY}\n", "pi5", 22, ""),
    ("@revoked pi5 {KEY}\n", "pi5", 22, ""),
    ("@revoked pi5 {KEY}\npi5 {KEY}\n", "pi5", 2222, ""),
    ("@revoked pi4 {KEY}\npi5 {KEY}\n", "pi5", 22, ""),
    ("@revoked pi5 {OTHER}\npi5 {KEY}\n", "pi5", 22, ""),
    ("@cert-authority * {KEY}\n", "pi5", 22, ""),
    ("@cert-authority * {OTHER}\npi5 {KEY}\n", "pi5", 22, ""),
    ("@unheard pi5 {KEY}\n", "pi5", 22, ""),
    ("alias {KEY}\n", "pi5", 22, "alias"),
    ("alias {KEY}\n", "pi5", 2222, "alias"),
    ("[alias]:2222 {KEY}\n", "pi5", 2222, "alias"),
    ("pi5 {KEY}\n", "pi5", 22, "alias"),
    ("alias {KEY}\n", "pi5", 22, "ALIAS"),
    ("fe80::1 {KEY}\n", "fe80::1", 22, ""),
    ("[fe80::1]:2222 {KEY}\n", "fe80::1", 2222, ""),
    ("10.0.0.0/8 {KEY}\n", "10.0.0.5", 22, ""),
    ("pi[5] {KEY}\n", "pi5", 22, ""),
    ("|1|broken {KEY}\n|2|a|b {KEY}\npi5 {KEY}\n", "pi5", 22, ""),
    ("pi5 {TYPE}\t{BASE64}\n", "pi5", 22, ""),
]


@pytest.fixture
async def server() -> AsyncIterator[tuple[int, HostKey]]:
    """The port and the key of a server that lets nobody in."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with asyncssh.listen("127.0.0.1", 0, server_host_keys=[key]) as listener:
        public = parse_key(key.export_public_key().decode())
        assert public is not None
        yield listener.get_port(), public


def route(file: Path, host: str, port: int = 22, alias: str = "") -> Route:
    known = (file, file.with_name("absent"), file.parent)
    return Route(
        name=host, host=host.lower(), port=port, user="me", identities=(), known_hosts=known, alias=alias.lower()
    )


def asked(file: Path, host: str, port: int, alias: str, at: int) -> Verdict:
    """What ssh makes of the server's key."""
    # It hands ssh a connected socket, so that the host can have any name and port.
    script = file.with_name("connect.py")
    script.write_text(
        f"import socket; to = socket.create_connection(('127.0.0.1', {at}));"
        "socket.send_fds(socket.socket(fileno=1), [b'0'], [to.fileno()])"
    )
    options = ["StrictHostKeyChecking=yes", "BatchMode=yes", "IdentityAgent=none", "IdentityFile=none"]
    options += [f"UserKnownHostsFile={file}", "GlobalKnownHostsFile=none", "ProxyUseFdpass=yes"]
    options += [f"ProxyCommand={sys.executable} -IS {script}"]
    options += [f"HostKeyAlias={alias}"] if alias else []
    words = [program("ssh"), "-F", "none", "-p", str(port), *(word for option in options for word in ("-o", option))]
    said = run_limited([*words, host, "true"], capture_output=True, text=True, check=False).stderr
    return next(verdict for text, verdict in SAID if text in said)


@pytest.mark.parametrize("names", ["plain", "hashed"])
async def test_as_openssh(server: tuple[int, HostKey], tmp_path: Path, names: str):
    """The verdict on a key, also where the names are hashed."""
    at, key = server
    other = new_key(tmp_path / "other")
    kind, base64 = key.line.split()
    for text, host, port, alias in CASES:
        file = tmp_path / "known_hosts"
        file.write_text(text.format(KEY=key.line, OTHER=other.line, TYPE=kind, BASE64=base64))
        if names == "hashed":
            run_limited([program("ssh-keygen"), "-q", "-H", "-f", file], capture_output=True, check=False)
        expected = await asyncio.to_thread(asked, file, host, port, alias, at)
        assert read_known_hosts(route(file, host, port, alias)).record().verdict(key) is expected, (text, host, port)


def test_an_address_is_as_good_as_the_name(tmp_path: Path):
    """Where there is no alias: several hosts may share an address, and each has an alias then."""
    key = new_key(tmp_path / "key")
    file = tmp_path / "known_hosts"
    file.write_text(f"10.0.0.5 {key.line}\n")

    def verdict(alias: str) -> Verdict:
        return read_known_hosts(route(file, "pi5", 22, alias)).record("10.0.0.5").verdict(key)

    assert verdict("") is Verdict.KNOWN
    assert verdict("alias") is Verdict.UNKNOWN


def test_a_file_that_may_not_be_read_is_an_error(tmp_path: Path):
    """It may revoke a key. A file that is not there, and a folder, have no entries."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)

    assert read_known_hosts(route(tmp_path / "known_hosts", "pi5")) == KnownHosts(
        route(tmp_path / "known_hosts", "pi5"), ()
    )
    with pytest.raises(LostError, match="loop") as refused:
        read_known_hosts(route(loop, "pi5"))
    assert refused.value.code == "known_hosts"


def test_a_key_is_shown_as_ssh_keygen_shows_it(tmp_path: Path):
    """The fingerprint is the one to compare with."""
    key = new_key(tmp_path / "a")
    told = run("ssh-keygen", "-lf", str(tmp_path / "a.pub")).split()
    assert str(key) == f"{told[1]} {told[3]}"
    assert str(HostKey(key.type, key.blob, 256)) == f"{told[0]} {told[1]} {told[3]}"


def new_key(path: Path) -> HostKey:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path))
    key = parse_key(path.with_name(f"{path.name}.pub").read_text())
    assert key is not None
    return key
