"""The user's keys as enrolment offers and makes them, judged by ssh-keygen."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.domain.hosts.inventory import Address
from coordinator.errors import UsageError
from coordinator.hosts.enrol.keys import create, keyring
from coordinator.hosts.ssh.route import read_route
from tests.services.board_lab import run
from tests.services.commands import run_limited


def test_keys_are_offered_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Usable files first to last, without those that have a passphrase; a new key is never put over an old one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    folder = tmp_path / ".ssh"
    folder.mkdir(mode=0o700)
    run("ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(folder / "id_rsa"))
    run("ssh-keygen", "-q", "-t", "ecdsa", "-N", "secret", "-f", str(folder / "id_ecdsa"))
    made = create(folder / "id_ed25519")
    found = keyring(read_route(Address(host="pi5"), tmp_path, system=tmp_path / "none"))
    found.close()
    assert [key.source for key in found.keys] == ["~/.ssh/id_ed25519", "~/.ssh/id_rsa"]
    assert found.locked == (folder / "id_ecdsa",)
    assert made.public == " ".join((folder / "id_ed25519.pub").read_text().split()[:2])
    assert (folder / "id_ed25519").stat().st_mode & 0o777 == 0o600
    derived = run_limited(["ssh-keygen", "-y", "-f", folder / "id_ed25519"], capture_output=True, text=True, check=True)
    assert derived.stdout.split()[:2] == made.public.split()
    with pytest.raises(UsageError):
        create(folder / "id_ed25519")
