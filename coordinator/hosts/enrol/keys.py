"""The user's own SSH keys: those that can be offered to a host, those locked by a passphrase, and creating one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.errors import UsageError
from coordinator.hosts.ssh.route import Route, short
from coordinator.regular_files import read_file

if TYPE_CHECKING:
    from paramiko import Agent, AgentKey, PKey

_SOCKET = "SSH_AUTH_SOCK"


@dataclass(frozen=True, slots=True)
class UserKey:
    """A key that can sign. `source` is its file or its name in the ssh-agent, for messages."""

    source: str
    key: PKey | AgentKey

    @property
    def public(self) -> str:
        """`TYPE BASE64`."""
        return f"{self.key.get_name()} {self.key.get_base64()}"


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys to offer, in order; `locked` are key files with a passphrase whose key is in no ssh-agent."""

    keys: tuple[UserKey, ...]
    locked: tuple[Path, ...] = ()
    agent: Agent | None = None

    def close(self) -> None:
        """Close the connection to the ssh-agent; its keys cannot sign any more."""
        if self.agent is not None:
            self.agent.close()


def keyring(route: Route) -> Keyring:
    """Return the keys for this route.

    Files that IdentityFile names come before the ssh-agent's other keys, the default files after them. With
    IdentitiesOnly, the ssh-agent's other keys are left out.
    """
    agent = _agent(route)
    held = [] if agent is None else [UserKey(_agent_name(key), key) for key in agent.get_keys()]
    by_public = {key.public: key for key in held}
    files: list[UserKey] = []
    locked: list[Path] = []
    for path in route.identities:
        public = _public_of(path)
        if public in by_public:
            files.append(by_public[public])
            continue
        try:
            loaded = _loaded(path)
        except PermissionError:
            locked.append(path)
            continue
        if loaded is not None:
            files.append(UserKey(short(path), loaded))
    others = [] if route.only else held
    ordered = [*files, *others] if route.chosen else [*others, *files]
    return Keyring(tuple({key.public: key for key in ordered}.values()), tuple(locked), agent)


def create(path: Path) -> UserKey:
    """Create an Ed25519 key without a passphrase, in OpenSSH's format as ssh-keygen writes it.

    Raises UsageError where a file exists already or cannot be written.
    """
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from paramiko import Ed25519Key

    public_path = path.with_name(f"{path.name}.pub")
    if public_path.exists():
        hint = "is its private key in an ssh-agent or on a token? start that; or move the file away"
        raise UsageError(f"{short(public_path)} exists, but its private key does not", hint=hint)
    made = Ed25519PrivateKey.generate()
    private = made.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
    public = made.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # O_EXCL: never overwrite an existing key, such as one with a passphrase.
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
            file.write(private)
        public_path.write_bytes(public + b" archloom\n")
    except OSError as error:
        raise UsageError(f"cannot write the key {path}: {error.strerror}", hint="ssh-keygen -t ed25519") from error
    return UserKey(short(path), Ed25519Key.from_private_key_file(str(path)))


def _agent(route: Route) -> Agent | None:
    if not route.agent:
        return None
    from paramiko import Agent
    from paramiko.ssh_exception import SSHException

    with _agent_at(route.agent):
        try:
            return Agent()
        except (SSHException, OSError):  # a stale socket, which no agent serves
            return None


def _agent_name(key: AgentKey) -> str:
    return f"{key.comment or key.get_name()} (ssh-agent)"


@contextmanager
def _agent_at(socket: str) -> Iterator[None]:
    """Set SSH_AUTH_SOCK to this socket for the block: paramiko ignores IdentityAgent."""
    before = os.environ.get(_SOCKET)
    os.environ[_SOCKET] = socket
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SOCKET]
        else:
            os.environ[_SOCKET] = before


def _loaded(path: Path) -> PKey | None:
    """Return the private key in this file; None where there is no readable one.

    Raises PermissionError for a key with a passphrase.
    """
    from paramiko import ECDSAKey, Ed25519Key, RSAKey
    from paramiko.ssh_exception import PasswordRequiredException, SSHException

    if path.suffix == ".pub" or not path.is_file():
        return None
    for kind in (Ed25519Key, ECDSAKey, RSAKey):
        try:
            loaded: PKey = kind.from_private_key_file(str(path))
        except PasswordRequiredException:
            raise PermissionError(path) from None
        except (SSHException, OSError, ValueError, IndexError):
            continue
        return loaded
    return None


def _public_of(path: Path) -> str:
    """Return `TYPE BASE64` from the `.pub` file of a key; empty where it cannot be read."""
    public_path = path if path.suffix == ".pub" else path.with_name(f"{path.name}.pub")
    try:
        return " ".join(read_file(public_path).decode("utf-8").split()[:2])
    except (OSError, ValueError):
        return ""
