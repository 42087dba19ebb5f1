"""Check each inventory entry against the facts of its host, and against the other entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from coordinator.domain.hosts.facts import Facts
from coordinator.domain.hosts.inventory import Host, Inventory, Kind
from coordinator.domain.hosts.problems import SAME_MACHINE, Problem, Severity
from coordinator.domain.image.platforms import Mode
from coordinator.domain.placement.eligibility import Unreachable

Found = Mapping[str, Facts | Unreachable]


def with_pins(host: Host, facts: Facts) -> Facts:
    """Return the facts, with a warning added where `platforms:` names platforms that this host does not run."""
    emulates = host.kind is Kind.EMULATOR
    able = [platform for platform, mode in facts.platforms if emulates or mode is not Mode.EMULATED]
    absent = [platform for platform in host.platforms if platform not in able]
    if not absent or not able:
        return facts
    runs = ", ".join(map(str, able))
    message = f"the inventory says platforms: {', '.join(map(str, absent))}, and the probe found {runs}"
    hint = f"correct platforms: of {host.name} in the inventory, or leave it out: the probe finds them"
    return replace(facts, problems=(*facts.problems, Problem("pins", message, hint, Severity.WARNING)))


def mark_duplicates(inventory: Inventory, found: Found, machines: Mapping[str, str]) -> dict[str, Facts | Unreachable]:
    """Return the probe outcomes, with every entry blocked that is the same machine as an earlier entry.

    Two entries for one machine would give it twice as many jobs as it has slots. `machines` holds the machine id and
    the boot id by host: machine ids and engine ids are copied with an SD card, boot ids are not.
    """
    first: dict[tuple[str, str], Host] = {}
    marked = dict(found)
    for host in inventory.hosts:
        facts, machine = found.get(host.name), machines.get(host.name, "")
        if not isinstance(facts, Facts) or facts.engine is None or not machine:
            continue
        other = first.setdefault((machine, facts.engine.id), host)
        if other is not host:
            marked[host.name] = replace(facts, problems=(_duplicate(inventory, host, other), *facts.problems))
    return marked


def _duplicate(inventory: Inventory, host: Host, other: Host) -> Problem:
    message = f"{host.name} ({host.address}) and {other.name} ({other.address}) are the same machine"
    where = f" in {inventory.source}" if inventory.source else ""
    hint = f"remove the entry {host.name}: under {host.kind}s:{where}"
    return Problem(SAME_MACHINE, message, hint, Severity.BLOCKING)
