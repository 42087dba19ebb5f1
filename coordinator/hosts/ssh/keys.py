"""The user's keys for login: the key files that exist, and which of them need a passphrase."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncssh

from coordinator.hosts.ssh.known_hosts import parse_key
from coordinator.hosts.ssh.route import Route, short
from coordinator.regular_files import read_file


def login_options(route: Route) -> dict[str, Any]:
    """Return asyncssh's options for the keys of this route.

    Absent files are skipped, as `ssh` does. asyncssh's default files are tried where IdentityFile names none that
    exists. With IdentitiesOnly, the ssh-agent's other keys are left out where the public keys of the files are known.
    """
    files = _private_files(route) if route.chosen else []
    options: dict[str, Any] = {"agent_path": route.agent, "client_keys": files or (), "ignore_encrypted": True}
    if route.certificates:
        options["client_certs"] = [str(path) for path in route.certificates if path.is_file()]
    blobs = [blob for path in route.identities if (blob := _public_blob(path))]
    if route.only and route.chosen and blobs:
        options["agent_identities"] = blobs
    return options


def shown(route: Route) -> tuple[str, ...]:
    """Return what a login offers, for messages: key files without a passphrase, and `ssh-agent` where there is one."""
    agent = ("ssh-agent",) if route.agent else ()
    return (*(short(path) for path in _private_files(route) if not _is_locked(path)), *agent)


def locked(route: Route) -> tuple[str, ...]:
    """Return the key files that have a passphrase and so cannot be used; empty where there is an ssh-agent."""
    return () if route.agent else tuple(short(path) for path in _private_files(route) if _is_locked(path))


def _private_files(route: Route) -> list[Path]:
    return [path for path in route.identities if path.suffix != ".pub" and path.is_file()]


def _public_blob(path: Path) -> bytes:
    """Return the public key of a key file; empty where no `.pub` file has it."""
    public_path = path if path.suffix == ".pub" else path.with_name(f"{path.name}.pub")
    try:
        key = parse_key(read_file(public_path).decode("utf-8"))
    except (OSError, ValueError):
        return b""
    return key.blob if key else b""


def _is_locked(path: Path) -> bool:
    try:
        asyncssh.read_private_key(path)
    except asyncssh.KeyImportError as error:
        return "Passphrase" in str(error)
    except (OSError, ValueError):
        return False
    return False
