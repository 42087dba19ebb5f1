"""Checks the key a host shows against the inventory's `host_key:`, else against known_hosts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import asyncssh

from coordinator import deadlines
from coordinator.errors import LostError
from coordinator.hosts.ssh.known_hosts import HostKey, KnownHosts
from coordinator.hosts.ssh.proxy_command import ProxyCommand

CHANGED = "host_key_changed"

_Keys = list[asyncssh.SSHKey]


def fingerprint(key: asyncssh.SSHKey) -> str:
    """Return the key's algorithm and its SHA256 fingerprint in the form of `ssh-keygen -l`."""
    return f"{key.get_algorithm()} {key.get_fingerprint()}"


class HostKeyCheck(asyncssh.SSHClient):
    """Observes one connection attempt and checks the host key that the server shows.

    `pin` is the inventory's `host_key:`, `SHA256:…` or `TYPE BASE64`. Where it is set, only that key is accepted;
    known_hosts can still revoke it. `banner` is the text that the server sends before the login (sshd_config(5),
    Banner). `proxy` carries the connection, and is closed with it.
    """

    def __init__(self, pin: str, known: KnownHosts) -> None:
        self.shown: asyncssh.SSHKey | None = None
        self.banner = ""
        self.proxy: ProxyCommand | None = None
        self._pin = pin
        self._files = known
        self._known: _Keys = []
        self._connection: asyncssh.SSHClientConnection | None = None

    @property
    def greeted(self) -> bool:
        """Whether the server has sent its version line: it is reachable, even if slow."""
        return self._connection is not None and bool(self._connection.get_extra_info("server_version"))

    @property
    def algorithms(self) -> Sequence[str] | None:
        """The host key algorithms to request where the pin is a whole key; None where it is a fingerprint or empty."""
        return None if self._pin.startswith("SHA256:") or not self._pin else _signatures(self._pin)

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self._connection = conn

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self.proxy is not None:
            self.proxy.close(0.0 if self.greeted else deadlines.PROXY_END)

    def auth_banner_received(self, msg: str, lang: str) -> None:  # noqa: ARG002
        self.banner = msg

    def known_keys(self, host: str, addr: str, port: int | None) -> tuple[_Keys, _Keys, _Keys]:  # noqa: ARG002
        """Return a host's trusted keys, trusted certificate authorities and revoked keys, as asyncssh expects them."""
        record = self._files.record(addr)
        self._known = _imported(record.keys)
        revoked = _imported(record.revoked)
        if self._pin:
            return [], [], revoked
        return [*self._known, *_imported(record.elsewhere)], _imported(record.authorities), revoked

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002
        self.shown = key
        return self._is_pinned(key)

    def refusal(self, name: str, where: str, why: str, *, jump: str = "") -> LostError:
        """Return the error for a rejected host key, with the next command as its hint.

        `where` is the server's address, `why` asyncssh's reason, `jump` the jump host that showed the key, empty for
        the host itself.
        """
        subject = f"host '{name}': the host key of {where}"
        trust = f"ssh {jump} true" if jump else f"archloom boards trust {name}"
        compare = "compare it on the host, with ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub; then:"
        if "revoked" in why:
            hint = "make new keys on the host (ssh-keygen -A) or remove the @revoked line"
            return LostError(f"{subject} is revoked in known_hosts", hint=hint, code="host_key_revoked")
        if self.shown is None:
            message = f"{subject} is signed by a certificate authority that is not in known_hosts"
            return LostError(message, hint="add its @cert-authority line to ~/.ssh/known_hosts", code="host_key")
        shown = fingerprint(self.shown)
        if expected := self._expected():
            return LostError(
                f"{subject} has CHANGED: it shows {shown}, expected {expected}",
                hint=f"the SD card was rewritten, or another machine answers at this address; {compare}\n{trust}",
                code=CHANGED,
            )
        return LostError(
            f"{subject} is not known: it shows {shown}", hint=f"{compare}\n{trust}", code="host_key_unknown"
        )

    def _expected(self) -> str:
        if self._pin:
            key = self._pin if self._pin.startswith("SHA256:") else fingerprint(asyncssh.import_public_key(self._pin))
            return f"{key} from the inventory"
        return " or ".join(map(fingerprint, self._known)) + " from known_hosts" if self._known else ""

    def _is_pinned(self, key: asyncssh.SSHKey) -> bool:
        if self._pin.startswith("SHA256:"):
            return key.get_fingerprint() == self._pin
        return bool(self._pin) and key == asyncssh.import_public_key(self._pin)


def _signatures(pin: str) -> Sequence[str]:
    return [name.decode("ascii") for name in asyncssh.import_public_key(pin).sig_algorithms]


def _imported(keys: tuple[HostKey, ...]) -> _Keys:
    """Return the keys of the types that asyncssh can use."""
    imported: _Keys = []
    for key in keys:
        with suppress(asyncssh.KeyImportError):
            imported.append(asyncssh.import_public_key(key.line))
    return imported
