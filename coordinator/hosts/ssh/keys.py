"""The user's keys for login: the key files that exist, and which of them need a passphrase."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import asyncssh

_DEFAULT_KEY_NAMES = ("id_ed25519", "id_ecdsa", "id_rsa")


def identity_files(options: asyncssh.SSHClientConnectionOptions) -> list[Path] | None:
    """Return the existing files of IdentityFile, skipping absent ones as `ssh` does; None where it is not set."""
    named = options.config.get("IdentityFile", ())
    if not isinstance(named, Sequence) or not named:
        return None
    return [path for path in (Path(str(name)).expanduser() for name in named) if path.is_file()]


def shown(options: asyncssh.SSHClientConnectionOptions) -> tuple[str, ...]:
    """Return what a login offers, for messages: key files without a passphrase, and `ssh-agent` where there is one."""
    agent = ("ssh-agent",) if _agent(options) else ()
    return (*(_short(path) for path in _candidates(options) if not _is_locked(path)), *agent)


def locked(options: asyncssh.SSHClientConnectionOptions) -> tuple[str, ...]:
    """Return the key files that have a passphrase and so cannot be used; empty where there is an ssh-agent."""
    return () if _agent(options) else tuple(_short(path) for path in _candidates(options) if _is_locked(path))


def _candidates(options: asyncssh.SSHClientConnectionOptions) -> list[Path]:
    named = identity_files(options)
    defaults = (Path("~/.ssh", name).expanduser() for name in _DEFAULT_KEY_NAMES)
    return [path for path in defaults if path.is_file()] if named is None else named


def _is_locked(path: Path) -> bool:
    try:
        asyncssh.read_private_key(path)
    except asyncssh.KeyImportError as error:
        return "Passphrase" in str(error)
    except (OSError, ValueError):
        return False
    return False


def _agent(options: asyncssh.SSHClientConnectionOptions) -> str:
    return str(options.config.get("IdentityAgent", "") or os.environ.get("SSH_AUTH_SOCK", ""))


def _short(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
