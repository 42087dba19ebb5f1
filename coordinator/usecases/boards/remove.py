"""`archloom boards remove`: remove a host from the inventory; with `--purge`, first purge the host."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from coordinator.config import yaml_source
from coordinator.config.edit import SECTIONS, find, without_host
from coordinator.config.locate import find as find_file
from coordinator.config.locate import label
from coordinator.config.rewrite import read_text, rewrite
from coordinator.domain.hosts.inventory import Host, Inventory
from coordinator.environment import Environment
from coordinator.errors import InterruptedRunError, LostError, UsageError
from coordinator.farm.farm import Farm
from coordinator.hosts.agent.purge import Purged, purge
from coordinator.hosts.agent.replies import JobEntry
from coordinator.hosts.enrol.install import mark
from coordinator.usecases.boards.add import listed
from coordinator.usecases.boards.console import Console
from coordinator.usecases.boards.host_key import command


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """The arguments of `boards remove`."""

    name: str
    purge: bool = False
    yes: bool = False
    inventory: str | None = None


@dataclass(frozen=True, slots=True)
class Removed:
    """`lines` name what was deleted on the host, one line each; `is_last`: the file has no more hosts."""

    file: Path
    lines: tuple[str, ...]
    is_last: bool


def remove(wanted: Removal, env: Environment, console: Console) -> Removed:
    """Purge the host if requested, then remove its entry. Raises UsageError or LostError and keeps the entry."""
    path = find_file(wanted.inventory, env.environ, env.folder, env.home)
    if path is None:
        raise UsageError(f"there is no inventory file, so no host {wanted.name}", code="config")
    text = read_text(path)
    find(text, label(path), wanted.name)
    lines: tuple[str, ...] = ()
    if wanted.purge:
        lines = asyncio.run(_purge(listed(path, wanted.name), wanted, env, console))
    rewrite(path, lambda now: without_host(now, label(path), wanted.name), may_be_empty=True)
    remaining = yaml_source.parse(read_text(path).removeprefix("\ufeff"), label(path))
    return Removed(path, lines, is_last=not any(remaining.members(section) for section in SECTIONS))


async def _purge(host: Host, wanted: Removal, env: Environment, console: Console) -> tuple[str, ...]:
    async with Farm(Inventory(hosts=(host,)), env) as farm:
        try:
            client = await farm.client(host.name)
            _check_idle(host.name, [entry for entry in await client.jobs() if entry.is_needed], wanted, console)
            return _report(await purge(client.transport, mark(env.holder)))
        except LostError as error:
            again = command("boards", "remove", host.name, inventory=wanted.inventory)
            hint = f"to remove it from the inventory without purging it: {again}"
            raise LostError(error.message, hint=f"{error.hint}\n{hint}".lstrip("\n"), code=error.code) from error


def _check_idle(name: str, needed: list[JobEntry], wanted: Removal, console: Console) -> None:
    """Ask before jobs of runs that may go on are ended. Raises LostError `busy` without a terminal."""
    if not needed or wanted.yes:
        return
    running = [entry.job for entry in needed if entry.is_running]
    others = [entry.job for entry in needed if not entry.is_running]
    sentences = []
    if running:
        sentences.append(f"{name} is building: {', '.join(running)}")
    if others:
        # Such as a run that pushes now, or one that was interrupted and can be resumed.
        sentences.append(f"{name} has jobs of runs that are not over: {', '.join(others)}")
    what = "; ".join(sentences)
    if not console.is_there:
        again = command("boards", "remove", name, "--purge", "--yes", inventory=wanted.inventory)
        raise LostError(what, hint=f"wait, or end them with: {again}", code="busy")
    if not console.agrees(f"{what}\nEnd these jobs?"):
        raise InterruptedRunError("nothing was changed")


def _report(purged: Purged) -> tuple[str, ...]:
    counts = (
        (purged.jobs, "job", ""),
        (len(purged.images), "image name", ""),
        (purged.keys, "line", " of authorized_keys"),
    )
    deleted = [f"{count} {what}{'' if count == 1 else 's'}{of}" for count, what, of in counts if count]
    lines = [f"deleted {path}" for path in (*deleted, *purged.files)]
    return (*lines, *(f"left {path}" for path in purged.kept))
