"""`archloom boards [show]`: the hosts of the inventory as they are now."""

from __future__ import annotations

import asyncio

import click

from coordinator.cli.around import around, open_inventory
from coordinator.cli.output import give, give_json, say
from coordinator.domain.facts import Facts
from coordinator.domain.fit import Unreachable
from coordinator.domain.inventory import Host
from coordinator.domain.platforms import Mode
from coordinator.report.tables import size, table

_MODES = (Mode.NATIVE, Mode.COMPAT, Mode.EMULATED)
_HEAD = ("name", "kind", "state", "engine", *_MODES, "cores", "memory", "disk free", "clock", "temp")


@click.command(epilog="\b\nExample:\n  archloom boards --json")
@click.option("-i", "--inventory", metavar="FILE", help="Hosts to look at. (env: ARCHLOOM_INVENTORY)")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def command(inventory: str | None, *, as_json: bool) -> None:
    """Show the hosts and what they can build."""
    from coordinator.runner.probe import probe_all

    here = around()
    hosts = open_inventory(inventory, here)
    found = asyncio.run(probe_all(hosts, here))
    if as_json:
        give_json([_to_json(host, found[host.name]) for host in hosts.hosts])
        return
    give(table(_HEAD, [_row(host, found[host.name]) for host in hosts.hosts]))
    for host in hosts.hosts:
        for text, hint in _troubles(found[host.name]):
            say(f"{host.name}: {text}" + (f"\n  hint: {hint}" if hint else ""))


def _row(host: Host, found: Facts | Unreachable) -> tuple[str, ...]:
    if isinstance(found, Unreachable):
        return (host.name, host.kind, "unreachable", *("-" for _ in _HEAD[3:]))
    state = "blocked" if found.blocking else host.state.value
    engine = found.engine
    return (
        host.name,
        host.kind,
        state,
        f"{engine.kind} {engine.version}" if engine else "-",
        *(" ".join(str(one).removeprefix("linux/") for one in found.in_mode(mode)) or "-" for mode in _MODES),
        str(found.cores),
        size(found.memory),
        size(found.disk_free),
        "-" if found.clock_offset is None else f"{found.clock_offset:+.1f} s",
        "-" if found.temperature is None else f"{found.temperature:.0f} °C",
    )


def _troubles(found: Facts | Unreachable) -> list[tuple[str, str]]:
    if isinstance(found, Unreachable):
        return [(found.message, found.hint)]
    return [(problem.message, problem.hint) for problem in found.problems]


def _to_json(host: Host, found: Facts | Unreachable) -> dict[str, object]:
    about: dict[str, object] = {"name": host.name, "kind": host.kind, "address": str(host.address), "state": host.state}
    if isinstance(found, Unreachable):
        return {**about, "state": "unreachable", "message": found.message, "hint": found.hint}
    return {**about, **found.to_json()}
