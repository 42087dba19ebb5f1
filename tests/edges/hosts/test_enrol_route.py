"""The way to a board as ssh itself would go, judged by `ssh -G`, and what known_hosts says, judged by ssh-keygen."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.domain.hosts.inventory import Address
from coordinator.errors import UsageError
from coordinator.hosts.enrol.config import Route, read_route
from coordinator.hosts.enrol.keys import create, keyring
from coordinator.hosts.enrol.trust import HostKey, Verdict, on_record, parse_key
from tests.services.board_lab import run
from tests.services.commands import run_limited
from tests.services.missing import program

CONFIG = """\
Include farm/*.conf none.conf
Host pi5 pi4
    HostName %h.lan
    User pi
    Include inside.conf
    Port 2222
Host *.lan !secret.lan
    User lan
Match host beast.lan user root
    Port 24
Match originalhost far
    ProxyJump jump@gate:2022,inner
    HostKeyAlias distant
Host pi*
    IdentityFile ~/.ssh/pi_key
    IdentitiesOnly yes
Host = quoted
    Port=26
Match all
    User everybody
"""
FARM = {
    "farm/a.conf": "Host odroid\n  HostName 10.0.0.9\n  User odroid\n",
    "farm/b.conf": "Port 2200\nHost pi4\n  Port 2244\n",
    "inside.conf": "IdentityAgent none\nHost pi4\n  User four\nMatch all\n  ConnectTimeout 3\n",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh").mkdir(mode=0o700)
    return tmp_path


def route(home: Path, host: str) -> Route:
    return read_route(Address(host=host), home, "me", system=home / "none")


def judge(home: Path, host: str) -> dict[str, str]:
    """What OpenSSH makes of it. It looks for the home in the password file, so what begins with ~ is spelled out."""
    config = home / ".ssh" / "config"
    # Relative names of Include are sought in the real home.
    lines = config.read_text().replace("Include farm", f"Include {home}/.ssh/farm")
    judged = home / "judged"
    judged.write_text(lines.replace("Include inside", f"Include {home}/.ssh/inside"))
    told = run(program("ssh"), "-G", "-F", str(judged), host)
    pairs = [line.partition(" ") for line in told.splitlines()]
    return {key: value for key, _, value in reversed(pairs)}


@pytest.mark.parametrize("host", ["pi5", "pi4", "odroid", "beast.lan", "secret.lan", "other", "far", "quoted"])
def test_as_ssh_itself(home: Path, host: str):
    """Host, port, user, key, alias and jump hosts are what OpenSSH says, through Include and Match."""
    for name, text in {"config": CONFIG, **FARM}.items():
        path = home / ".ssh" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    mine, theirs = route(home, host), judge(home, host)
    assert (mine.host, str(mine.port), mine.user) == (theirs["hostname"], theirs["port"], theirs["user"])
    assert mine.alias == theirs.get("hostkeyalias", "")
    assert mine.only == (theirs["identitiesonly"] == "yes")
    assert mine.agent == theirs.get("identityagent", "")
    if mine.chosen:
        assert str(mine.identities[0]) == theirs["identityfile"].replace("~", str(home))
    assert (mine.jump is not None) == ("proxyjump" in theirs)
    if mine.jump is not None:
        assert mine.jump.name == "inner"
        assert mine.jump.jump is not None
        assert (mine.jump.jump.user, mine.jump.jump.name, mine.jump.jump.port) == ("jump", "gate", 2022)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Host a\n  ProxyJump a\n", "lead in a circle"),
        ("Include config\n", "included too deeply"),
        ('Host "a\n', "a quote does not end"),
        ("Host a\n  Port many\n", "Port many"),
    ],
)
def test_a_configuration_that_leads_nowhere(home: Path, text: str, message: str):
    """It is an error of the user's file, told as one."""
    (home / ".ssh" / "config").write_text(text)
    with pytest.raises(UsageError, match=message):
        route(home, "a")


def test_what_is_on_record(home: Path):
    """Names, patterns, ports, hashes and markers, as ssh reads them."""
    first, second, third = (new_key(home / name) for name in ("a", "b", "c"))
    known = home / ".ssh" / "known_hosts"
    known.write_text(
        f"# mine\npi5,10.0.0.5 {first.line} comment\n*.lan,!bad.lan {second.line}\n[pi5]:2222 {second.line}\n"
        f"@revoked * {third.line}\n@cert-authority * {second.line}\nbroken line\npi9 ssh-ed25519 ???\n"
    )
    hashed = home / ".ssh" / "known_hosts2"
    hashed.write_text(f"pi7 {first.line}\n[pi7]:2200 {second.line}\n")
    run("ssh-keygen", "-H", "-f", str(hashed))

    def verdict(host: str, key: HostKey, port: int = 0) -> Verdict:
        way = read_route(Address(host=host, port=port), home, "me", system=home / "none")
        return on_record(way).verdict(key)

    assert verdict("pi5", first) is Verdict.KNOWN
    assert verdict("10.0.0.5", first) is Verdict.KNOWN
    assert verdict("PI5", first) is Verdict.KNOWN
    assert verdict("pi5", second) is Verdict.CHANGED
    assert verdict("pi5", second, 2222) is Verdict.KNOWN
    assert verdict("pi5", first, 2223) is Verdict.UNKNOWN
    assert verdict("pi4.lan", second) is Verdict.KNOWN
    assert verdict("bad.lan", second) is Verdict.UNKNOWN
    assert verdict("anything", third) is Verdict.REVOKED
    assert verdict("pi7", first) is Verdict.KNOWN
    assert verdict("pi7", second) is Verdict.CHANGED
    assert verdict("pi7", second, 2200) is Verdict.KNOWN
    assert verdict("pi9", first) is Verdict.UNKNOWN


def test_a_key_is_told_as_ssh_keygen_tells_it(home: Path):
    """The fingerprint is the one to compare with."""
    new_key(home / "a")
    key = parse_key((home / "a.pub").read_text())
    assert key is not None
    told = run("ssh-keygen", "-lf", str(home / "a.pub")).split()
    assert str(key) == f"{told[1]} {told[3]}"
    assert str(HostKey(key.type, key.blob, 256)) == f"{told[0]} {told[1]} {told[3]}"


def test_keys_are_offered_in_order(home: Path):
    """Usable files first to last, without those that have a passphrase; a new key is never put over an old one."""
    folder = home / ".ssh"
    run("ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(folder / "id_rsa"))
    run("ssh-keygen", "-q", "-t", "ecdsa", "-N", "secret", "-f", str(folder / "id_ecdsa"))
    made = create(folder / "id_ed25519")
    found = keyring(route(home, "pi5"))
    found.close()
    assert [one.source for one in found.keys] == ["~/.ssh/id_ed25519", "~/.ssh/id_rsa"]
    assert found.locked == (folder / "id_ecdsa",)
    assert made.public == " ".join((folder / "id_ed25519.pub").read_text().split()[:2])
    assert (folder / "id_ed25519").stat().st_mode & 0o777 == 0o600
    derived = run_limited(["ssh-keygen", "-y", "-f", folder / "id_ed25519"], capture_output=True, text=True, check=True)
    assert derived.stdout.split()[:2] == made.public.split()
    with pytest.raises(UsageError):
        create(folder / "id_ed25519")


def new_key(path: Path) -> HostKey:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path))
    key = parse_key(path.with_name(f"{path.name}.pub").read_text())
    assert key is not None
    return key
