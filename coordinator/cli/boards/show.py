"""`archloom boards [show]`: show the hosts of the inventory, by new or recent facts."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from coordinator.cli.environment import open_inventory, read_environment
from coordinator.cli.output import print_data, print_json, print_message
from coordinator.domain.durations import ago
from coordinator.domain.hosts.facts import Facts
from coordinator.domain.hosts.inventory import Host
from coordinator.domain.hosts.problems import Problem, Severity
from coordinator.domain.image.platforms import Mode
from coordinator.domain.placement.eligibility import Unreachable
from coordinator.domain.placement.host_names import check_names
from coordinator.report.tables import size, table
from coordinator.report.watch import Progress, watching

if TYPE_CHECKING:
    from coordinator.usecases.boards.survey import HostStatus

_MODES = (Mode.NATIVE, Mode.COMPAT, Mode.EMULATED)
_HEAD = ("name", "kind", "state", "engine", *_MODES, "cores", "memory", "disk free", "clock", "temp", "age")


@click.command(epilog="\b\nExamples:\n  archloom boards --refresh\n  archloom boards pi5\n  archloom boards --json")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--refresh", is_flag=True, help="Probe the hosts now, and ignore cached facts.")
@click.option("-i", "--inventory", metavar="FILE", help="Inventory with the hosts to show. (env: ARCHLOOM_INVENTORY)")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def command(names: tuple[str, ...], inventory: str | None, *, refresh: bool, as_json: bool) -> None:
    """Show the hosts and what they can build; named hosts in full.

    A host is probed again when its facts are older than five minutes or its SSH port takes no connection, or
    when it did not answer and a minute has passed.
    """
    from coordinator.usecases.boards.survey import survey_hosts

    env = read_environment()
    hosts = open_inventory(inventory, env)
    check_names(names, hosts.hosts, where="")
    with watching(Progress.PLAIN, sys.stderr) as watch:
        statuses = asyncio.run(survey_hosts(hosts, env, watch, names, refresh=refresh))
    shown = [(host, statuses[host.name]) for host in hosts.hosts if host.name in statuses]
    if as_json:
        print_json([_to_json(host, answer) for host, answer in shown])
    elif names:
        print_data("\n\n".join(_in_full(host, answer) for host, answer in shown))
    else:
        print_data(table(_HEAD, [_row(host, answer) for host, answer in shown]))
        for host, answer in shown:
            for problem in _troubles(host, answer):
                print_message(f"{host.name}: {problem.message}" + _hint(problem))


def _hint(problem: Problem) -> str:
    return "".join(f"\n  hint: {line}" for line in problem.hint.splitlines())


def _row(host: Host, status: HostStatus) -> tuple[str, ...]:
    found, age = status.found, ago(status.age)
    if isinstance(found, Unreachable):
        return (host.name, host.kind, _state(host, found), *("-" for _ in _HEAD[4:]), age)
    return (
        host.name,
        host.kind,
        _state(host, found),
        _engine(found) or "-",
        *(_platforms(found, mode) or "-" for mode in _MODES),
        str(found.cores),
        size(found.memory),
        size(found.disk_free),
        _clock(found) or "-",
        _temperature(found) or "-",
        age,
    )


def _in_full(host: Host, status: HostStatus) -> str:
    rows = [(name, value) for name, value in (*_entry(host, status), *_facts(status)) if value]
    width = max(len(name) for name, _ in rows)
    lines = [host.name, *(f"  {name.ljust(width)}  {value}" for name, value in rows)]
    for problem in _troubles(host, status):
        lines.append(f"  {problem.severity}: {problem.message}")
        lines += [f"    hint: {line}" for line in problem.hint.splitlines()]
    return "\n".join(lines)


def _entry(host: Host, status: HostStatus) -> Iterator[tuple[str, str]]:
    yield "kind", host.kind
    yield "address", str(host.address)
    yield "state", f"{_state(host, status.found)}, as of {ago(status.age)}"
    if not host.address.is_local:
        yield "host key", f"pinned: {host.host_key}" if host.host_key else "from ~/.ssh/known_hosts"
    yield "limited to", ", ".join(map(str, host.platforms))
    yield "use", ", ".join(host.use)
    yield "slots", str(status.slots or "")
    yield "note", host.note


def _facts(status: HostStatus) -> Iterator[tuple[str, str]]:
    facts = status.found
    if isinstance(facts, Unreachable):
        if facts.known is None:
            return
        yield "last seen", ago(status.known_age)
        facts = facts.known
    yield "model", facts.model
    yield "engine", _engine(facts)
    for mode in _MODES:
        yield mode, _platforms(facts, mode)
    engine = facts.engine
    if engine:
        yield "builds by", ", ".join(engine.builders)
        yield "engine API", engine.api
        yield "engine id", engine.id
        yield "images in", f"{engine.images} ({engine.store})"
    yield "cores", f"{facts.cores}, load {facts.load:.2f}" if facts.cores else ""
    yield "memory", _part(facts.memory_available, facts.memory, "available") if facts.memory else ""
    yield "disk", _part(facts.disk_free, facts.disk_total, "free") if facts.disk_total else ""
    yield "pages", f"{facts.page_size // 1024} KiB" if facts.page_size else ""
    yield "clock", _clock(facts)
    yield "temperature", _temperature(facts)
    yield "up since", ago(facts.uptime) if facts.uptime else ""
    yield "slots shared", "by every user of the engine" if facts.shared_slots else "by this login user only"


def _state(host: Host, found: Facts | Unreachable) -> str:
    if isinstance(found, Unreachable):
        return "unusable" if found.alive else "unreachable"
    return "blocked" if found.blocking else host.state.value


def _engine(facts: Facts) -> str:
    return f"{facts.engine.kind} {facts.engine.version}" if facts.engine else ""


def _platforms(facts: Facts, mode: Mode) -> str:
    return " ".join(str(platform).removeprefix("linux/") for platform in facts.in_mode(mode))


def _clock(facts: Facts) -> str:
    return "" if facts.clock_offset is None else f"{facts.clock_offset:+.1f} s"


def _temperature(facts: Facts) -> str:
    return "" if facts.temperature is None else f"{facts.temperature:.0f} °C"


def _part(left: int, whole: int, what: str) -> str:
    return f"{size(left)} of {size(whole)} {what}"


def _troubles(host: Host, status: HostStatus) -> tuple[Problem, ...]:
    found = status.found
    if isinstance(found, Facts):
        return found.problems
    again = f"is it back? archloom boards --refresh {host.name}" if status.cached else ""
    hint = "\n".join(filter(None, (found.hint, again)))
    return (Problem("unreachable", found.message, hint, Severity.BLOCKING),)


def _to_json(host: Host, status: HostStatus) -> dict[str, object]:
    common: dict[str, object] = {
        "name": host.name,
        "kind": host.kind,
        "address": str(host.address),
        "state": host.state,
        "slots": status.slots,
        "host_key_pinned": bool(host.host_key),
        "age_seconds": round(status.age, 3),
        "cached": status.cached,
    }
    found = status.found
    if isinstance(found, Unreachable):
        document = {"state": "unreachable", "alive": found.alive, "message": found.message, "hint": found.hint}
        return {**common, **document, "last_seen": _last_seen(found, status)}
    return {**common, **found.to_json()}


def _last_seen(found: Unreachable, status: HostStatus) -> dict[str, object] | None:
    if found.known is None:
        return None
    return {"age_seconds": round(status.known_age, 3), **found.known.to_json()}
