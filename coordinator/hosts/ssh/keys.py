"""The keys a user can log in with: the files there are, and which of them nobody can open."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import asyncssh

_USUAL = ("id_ed25519", "id_ecdsa", "id_rsa")


def identity_files(options: asyncssh.SSHClientConnectionOptions) -> list[Path] | None:
    """The files that IdentityFile names, those that are not there left out as `ssh` does; None where it names none."""
    named = options.config.get("IdentityFile", ())
    if not isinstance(named, Sequence) or not named:
        return None
    return [path for path in (Path(str(name)).expanduser() for name in named) if path.is_file()]


def shown(options: asyncssh.SSHClientConnectionOptions) -> tuple[str, ...]:
    """What a login shows: key files, and the agent where there is one."""
    agent = ("ssh-agent",) if _agent(options) else ()
    return (*(_short(path) for path in _candidates(options) if not _is_locked(path)), *agent)


def locked(options: asyncssh.SSHClientConnectionOptions) -> tuple[str, ...]:
    """The key files that have a passphrase: without an agent they are of no use here."""
    return () if _agent(options) else tuple(_short(path) for path in _candidates(options) if _is_locked(path))


def _candidates(options: asyncssh.SSHClientConnectionOptions) -> list[Path]:
    named = identity_files(options)
    usual = (Path("~/.ssh", name).expanduser() for name in _USUAL)
    return [path for path in usual if path.is_file()] if named is None else named


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
