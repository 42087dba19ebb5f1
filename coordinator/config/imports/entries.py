"""Convert machines of another tool to inventory entries: valid names, no duplicate machines."""

from __future__ import annotations

import re
from dataclasses import dataclass

from coordinator.config import addresses
from coordinator.config.imports.found import Found, Machine
from coordinator.domain.hosts.inventory import Address
from coordinator.domain.image.platforms import Platform

_MAX_NAME_CHARS = 63
# Control characters, but for the line break: a note may contain lines to paste.
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    address: Address
    platforms: tuple[Platform, ...] = ()


@dataclass(frozen=True, slots=True)
class Entries:
    """Entries of both sections. Only the coordinator is an emulator: no source says which other machines emulate."""

    source: str
    boards: tuple[Entry, ...]
    emulators: tuple[Entry, ...]
    notes: tuple[str, ...]


def entries(found: Found) -> Entries:
    """Return entries fit for an inventory: names are valid and unique, and no machine occurs twice."""
    notes = list(found.notes)
    machines = _once(found.machines, notes)
    local = [Entry(addresses.LOCAL, machine.address) for machine in machines if machine.address.is_local]
    taken = {entry.name for entry in local}
    boards = [
        Entry(_name(machine, taken, notes), machine.address, machine.platforms)
        for machine in machines
        if not machine.address.is_local
    ]
    return Entries(
        _CONTROL.sub("?", found.source).replace("\n", "?"),
        tuple(boards),
        tuple(local),
        tuple(_CONTROL.sub("?", note) for note in notes),
    )


def _once(machines: tuple[Machine, ...], notes: list[str]) -> list[Machine]:
    seen: dict[str, Machine] = {}
    for machine in machines:
        first = seen.setdefault(machine.identity, machine)
        if first is machine:
            continue
        if (first.name, first.address, first.platforms) == (machine.name, machine.address, machine.platforms):
            continue
        if machine.address.is_local:
            notes.append(f"{machine.name}: left out, it is this machine, like {first.name}")
        else:
            pinned = ", and has other platforms" if first.platforms != machine.platforms else ""
            same = f"the same machine as {first.name}, {first.address}{pinned}"
            notes.append(f"{machine.name}: left out, {machine.address} is {same}")
    return list(seen.values())


def _name(machine: Machine, taken: set[str], notes: list[str]) -> str:
    valid = machine.name
    if not re.match(addresses.NAME_PATTERN, valid):
        valid = re.sub(r"[^A-Za-z0-9._-]+", "-", valid).strip("._-")[:_MAX_NAME_CHARS].rstrip("._-") or "host"
    name, count = valid, 1
    while name in taken:
        count += 1
        name = f"{valid[: _MAX_NAME_CHARS - len(str(count)) - 1]}-{count}"
    taken.add(name)
    if name != machine.name:
        reason = "the name is taken" if name != valid else "host names have letters, digits, '.', '_' and '-'"
        notes.append(f"{machine.name}: named {name}, {reason}")
    return name
