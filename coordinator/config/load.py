"""Load `inventory.yaml` as a `domain.hosts.inventory.Inventory`, or report all of its problems in one error."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator.config.locate import label
from coordinator.config.problems import Problem, found, refusal
from coordinator.domain.hosts.inventory import Host, HostState, Inventory, Kind, Pins, RegistrySettings, Use, builtin

if TYPE_CHECKING:
    from coordinator.config.documents import Board, Defaults, Emulator, InventoryDocument
    from coordinator.config.yaml_source import Source

EXAMPLE = """write the hosts you have, for example:
boards:
  pi5: ssh://pi5
emulators:
  local: local"""
_WITH_DEFAULTS = (
    "jobs",
    "connect_timeout",
    "reconnect_for",
    "min_free",
    "keep_built",
    "cache_budget",
    "memory_floor",
    "engine",
)


def load(path: Path | None) -> Inventory:
    """Return the inventory in this file, or the built-in one without a path.

    Raises one UsageError with every problem of the file, each with its line, column and path.
    """
    if path is None:
        return builtin()
    from coordinator.config import yaml_source

    return inventory(yaml_source.read(path, label(path)), path)


def inventory(source: Source, path: Path) -> Inventory:
    """Return the inventory in this document. `path` is its file: relative file names start from its folder."""
    from coordinator.config import pydantic_errors

    root = source.root
    if root is None or root.data is None:
        raise refusal(source.label, [Problem(1, 1, "", "the inventory is empty")], hint=EXAMPLE)
    if not isinstance(root.data, dict):
        message = f"expected a map with boards: or emulators:, found {found(root.data)}"
        raise refusal(source.label, [*source.problems, source.problem((), message)], hint=EXAMPLE)
    document, problems = pydantic_errors.validate(source, root.data)
    hosts = list(_hosts(document))
    problems += [*_same_names(source), *_same_machines(source, hosts), *_missing_files(source, document, path)]
    if problems:
        raise refusal(source.label, problems)
    if not hosts:
        message = "there are no hosts: boards: and emulators: are empty or missing"
        raise refusal(source.label, [Problem(1, 1, "", message)], hint=EXAMPLE)
    found_inventory = Inventory(hosts=tuple(hosts), registries=_registries(document, path), source=str(path))
    if document.registry_patience is None:
        return found_inventory
    return dataclasses.replace(found_inventory, registry_patience=document.registry_patience)


def _hosts(document: InventoryDocument) -> Iterator[Host]:
    for name, board in document.boards.items():
        yield _host(Kind.BOARD, name, board, document.defaults)
    for name, emulator in document.emulators.items():
        host = _host(Kind.EMULATOR, name, emulator, document.defaults)
        yield dataclasses.replace(host, emulate=tuple(emulator.emulate or ()))


def _host(kind: Kind, name: str, entry: Board | Emulator, defaults: Defaults) -> Host:
    from coordinator.config import addresses

    address = entry.host or addresses.target(name)
    if not address.is_local:
        user = address.user or entry.user or defaults.user or ""
        address = dataclasses.replace(address, user=user, port=address.port or entry.port or defaults.port or 0)
    # The entry comes second: it overrides the defaults.
    shared: dict[str, Any] = {
        key: getattr(level, key)
        for level in (defaults, entry)
        for key in _WITH_DEFAULTS
        if getattr(level, key) is not None
    }
    return dataclasses.replace(
        Host(name=name, kind=kind, address=address),
        **shared,
        platforms=tuple(entry.platforms or ()),
        state=HostState(entry.state or HostState.ACTIVE),
        use=tuple(Use(word) for word in entry.use or ()),
        host_key=entry.host_key or "",
        note=entry.note or "",
    )


def _registries(document: InventoryDocument, path: Path) -> dict[str, RegistrySettings]:
    plain = tuple(host for host, settings in document.registries.items() if settings.http)
    return {
        host: RegistrySettings(
            host=host,
            http=settings.http or False,
            ca=str(_beside(path, settings.ca)) if settings.ca else "",
            via=settings.via or "tunnel",
            pins=Pins(settings.pins or Pins.KEEP),
            http_hosts=plain if settings.http else (),
        )
        for host, settings in document.registries.items()
    }


def _same_names(source: Source) -> Iterator[Problem]:
    lines = {name: part.key.line for name, part in source.members("boards")}
    for name, _ in source.members("emulators"):
        if name in lines:
            message = f"the name is taken by the board on line {lines[name]}"
            yield source.problem(("emulators", name), message, at_key=True)


def _same_machines(source: Source, hosts: list[Host]) -> Iterator[Problem]:
    """Yield a problem for each repeated address: two entries for one machine would give it twice as many jobs."""
    seen: dict[str, Host] = {}
    for host in hosts:
        first = seen.setdefault(str(host.address).lower(), host)
        if first.name != host.name:
            line = source.problem((f"{first.kind}s", first.name), "", at_key=True).line
            message = f"this is the same machine as {first.name} on line {line}: {host.address}"
            yield source.problem((f"{host.kind}s", host.name), message, at_key=True)


def _missing_files(source: Source, document: InventoryDocument, path: Path) -> Iterator[Problem]:
    for name, registry in document.registries.items():
        if registry.ca and not _beside(path, registry.ca).is_file():
            yield source.problem(("registries", name, "ca"), f"there is no file {_beside(path, registry.ca)}")


def _beside(path: Path, name: str) -> Path:
    return path.parent / Path(name).expanduser()
