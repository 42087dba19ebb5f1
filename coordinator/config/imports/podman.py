"""Podman's connections, from `podman system connection add` or containers.conf, and its farms."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.config.imports import files
from coordinator.config.imports.files import items, members, word
from coordinator.config.imports.found import Found, Machine, SshLine, ssh_address, ssh_config_notes
from coordinator.domain.hosts.inventory import Address
from coordinator.errors import UsageError

_HINT = "podman system connection list shows connections; add hosts one by one: archloom boards add USER@HOST"


@dataclass(frozen=True, slots=True)
class _Connection:
    name: str
    uri: str
    identity: str
    is_machine: bool


@dataclass(slots=True)
class _Taken:
    connections: dict[str, _Connection] = field(default_factory=dict)
    farms: dict[str, list[str]] = field(default_factory=dict)
    lines: list[SshLine] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read(environ: Mapping[str, str], home: Path) -> Found:
    """Return the connections in podman-connections.json and in containers.conf, farm members first.

    Raises UsageError where there is neither file, or one cannot be read.
    """
    config = environ.get("XDG_CONFIG_HOME", "")
    folder = (Path(config) if config.startswith("/") else home / ".config") / "containers"
    stored = Path(environ.get("PODMAN_CONNECTIONS_CONF") or folder / "podman-connections.json")
    configured = Path(environ.get("CONTAINERS_CONF") or folder / "containers.conf")
    present = [path for path in (stored, configured) if path.exists()]
    labels = " and ".join(files.shown(path, home) for path in present)
    if not present:
        neither = f"there is neither {files.shown(stored, home)} nor {files.shown(configured, home)}"
        raise UsageError(neither, hint=_HINT, code="import")
    taken = _Taken()
    if stored in present:
        _own(files.shown(stored, home), stored, taken)
    if configured in present:
        _written(files.shown(configured, home), configured, taken)
    machines = tuple(machine for in_farm in _by_farm(taken) for machine in _machine(in_farm, taken))
    farmed = {name for names in taken.farms.values() for name in names}
    if farmed:
        unfarmed = [in_farm.name for in_farm in machines if in_farm.name not in farmed and not in_farm.address.is_local]
        taken.notes += [f"{name}: in no farm; remove it if it is not a build host" for name in unfarmed]
    return Found(labels, machines, (*taken.notes, *ssh_config_notes(taken.lines)))


def _own(label: str, path: Path, taken: _Taken) -> None:
    document = members(files.json_document(files.text(path, label, _HINT), label, _HINT))
    for name, connection in members(members(document.get("Connection")).get("Connections")).items():
        parts = members(connection)
        taken.connections[name] = _Connection(
            name, word(parts.get("URI")), word(parts.get("Identity")), parts.get("IsMachine") is True
        )
    _farms(members(members(document.get("Farm")).get("List")), taken)


def _written(label: str, path: Path, taken: _Taken) -> None:
    try:
        document: dict[str, object] = tomllib.loads(files.text(path, label, _HINT))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{label}: not TOML: {error}", hint=_HINT, code="import") from error
    for name, destination in members(members(document.get("engine")).get("service_destinations")).items():
        parts = members(destination)
        connection = _Connection(
            name, word(parts.get("uri")), word(parts.get("identity")), parts.get("is_machine") is True
        )
        taken.connections.setdefault(name, connection)
    _farms(members(members(document.get("farms")).get("list")), taken)


def _farms(farms: dict[str, object], taken: _Taken) -> None:
    for name, connections in farms.items():
        taken.farms.setdefault(name, [word(connection) for connection in items(connections)])


def _by_farm(taken: _Taken) -> Iterator[_Connection]:
    """Yield all connections, members of farms first: of two connections to one machine, the first is used."""
    for farm, names in taken.farms.items():
        for name in names:
            if name not in taken.connections:
                taken.notes.append(f"the farm {farm} names the connection {name}, which does not exist")
    farmed = [name for names in taken.farms.values() for name in names if name in taken.connections]
    yield from (taken.connections[name] for name in dict.fromkeys([*farmed, *taken.connections]))


def _machine(connection: _Connection, taken: _Taken) -> Iterator[Machine]:
    scheme = connection.uri.partition("://")[0].lower()
    if connection.is_machine:
        taken.notes.append(f"{connection.name}: left out, it is a virtual machine of podman on this computer")
    elif scheme == "unix":
        yield Machine(name=connection.name, address=Address())
    elif scheme != "ssh":
        bare = re.sub(r"//[^/@]*@", "//", connection.uri) or "nothing"
        taken.notes.append(f"{connection.name}: left out, archloom reaches hosts by SSH, found {bare}")
    else:
        try:
            address = ssh_address(connection.uri)
        except ValueError as error:
            taken.notes.append(f"{connection.name}: left out, {error}")
            return
        if connection.identity:
            taken.lines.append(SshLine(connection.name, address.host, f"IdentityFile {_quoted(connection.identity)}"))
        yield Machine(name=connection.name, address=address)


def _quoted(path: str) -> str:
    return f'"{path}"' if " " in path else path
