"""`archloom boards add`: enrol a host from its address, test it, and append its entry to the inventory."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from coordinator.config import addresses, yaml_source
from coordinator.config.edit import Entry, find, with_host
from coordinator.config.load import inventory, load
from coordinator.config.locate import label
from coordinator.config.rewrite import place, read_text, rewrite
from coordinator.domain.hosts.facts import Facts
from coordinator.domain.hosts.inventory import Address, Host, Inventory, Kind
from coordinator.domain.placement.eligibility import Unreachable
from coordinator.domain.run.events import Event
from coordinator.environment import Environment
from coordinator.errors import LostError, UsageError
from coordinator.hosts.ssh.known_hosts import read_known_hosts
from coordinator.hosts.ssh.route import read_route
from coordinator.usecases.boards.authorize import LoginTarget, authorize
from coordinator.usecases.boards.console import Console
from coordinator.usecases.boards.host_key import Question, command, trusted_key
from coordinator.usecases.boards.survey import survey_hosts

_NEW_FILE = """\
# The hosts archloom may build on. `archloom inventory schema` lists every key there is.
"""
# Without an inventory file the coordinator is an emulator by default; with a file only if the file lists it.
_THIS_MACHINE = """
# Emulators run through QEMU what no board can; without an inventory file, this machine is one.
emulators:
  local: local
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """The arguments of `boards add`. `target` is as the user wrote it."""

    target: str
    name: str = ""
    kind: Kind = Kind.BOARD
    host_key: str = ""
    yes: bool = False
    inventory: str | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """The entry as it is in `file` now, and the probe outcome. `was_there`: nothing had to be written."""

    file: Path
    host: Host
    found: Facts | Unreachable
    is_new_file: bool = False
    was_there: bool = False


def add(wanted: Addition, env: Environment, console: Console) -> Added:
    """Set up the login by key and append the host to the inventory, which is written last.

    A host that answers but cannot build yet is added. Raises LostError where the host cannot be reached.
    """
    address = parsed(wanted.target)
    file = place(wanted.inventory, env.environ, env.folder, env.home)
    is_new = not file.exists()
    entry = Entry(f"{wanted.kind}s", wanted.name or _name(address), wanted.target)
    before = new_text(entry) if is_new else read_text(file)
    listed_host = _listed_already(before, file, entry) if address.is_local else None
    if listed_host is not None:
        found = asyncio.run(_probe_only(Inventory(hosts=(listed_host,)), env))
        return Added(file, listed_host, found, was_there=True)
    _check_free(before, file, entry, address)
    host = _host(with_host(before, label(file), entry), file, entry.name)
    if not address.is_local:
        entry = dataclasses.replace(entry, host_key=_reach(wanted, host, env, console))

    def edit(text: str) -> str:
        return with_host(text or before, label(file), entry)

    made = _inventory(edit(before), file)
    host = _host(edit(before), file, entry.name)
    console.say(f"{entry.name}: probing it")
    found = asyncio.run(_probe_only(dataclasses.replace(made, hosts=(host,)), env))
    try:
        rewrite(file, edit)
    except UsageError as error:
        lines = "\n".join([f"{entry.section}:", *entry.lines()])
        raise UsageError(error.message, hint=f"make it writable, or put these lines into it:\n{lines}") from error
    return Added(file, host, found, is_new_file=is_new)


def parsed(target: str) -> Address:
    try:
        return addresses.target(target)
    except ValueError as error:
        raise UsageError(str(error), code="usage") from error


def new_text(entry: Entry) -> str:
    """Return a new inventory file for this entry, which keeps the coordinator as the emulator it is without a file."""
    if entry.target == addresses.LOCAL:
        return _NEW_FILE
    return _NEW_FILE + ("\nboards:\n" if entry.section == "boards" else "") + _THIS_MACHINE


def _reach(wanted: Addition, host: Host, env: Environment, console: Console) -> str:
    """Check the host key and set up the login; return the host key as `TYPE BASE64`."""
    route = read_route(host.address, env.home)
    question = Question(route, given(wanted.host_key), _command(wanted), host.connect_timeout)
    key = trusted_key(question, read_known_hosts(route).record(), console)
    authorize(LoginTarget(route, key, host.connect_timeout, wanted.yes), env, console)
    return key.line


def given(written: str) -> str:
    """Return the normalised value of `--host-key`. Raises UsageError where it is invalid."""
    try:
        return addresses.host_key(written) if written else ""
    except ValueError as error:
        raise UsageError(f"--host-key: {error}", code="usage") from error


async def _probe_only(only: Inventory, env: Environment) -> Facts | Unreachable:
    """Probe the only host of this inventory; return the outcome. Raises LostError where its address does not answer."""
    name = only.hosts[0].name
    found = (await survey_hosts(only, env, _ignore, (name,), refresh=True))[name].found
    if isinstance(found, Unreachable) and not found.alive:
        raise LostError(f"host '{name}': {found.message}", hint=found.hint)
    return found


def _ignore(_event: Event) -> None:
    """Emit nothing: notices about slow hosts are for several hosts."""


def _command(wanted: Addition) -> str:
    words = ["boards", "add", wanted.target]
    words += ["--name", wanted.name] if wanted.name else []
    words += ["--emulator"] if wanted.kind is Kind.EMULATOR else []
    return command(*words, inventory=wanted.inventory)


def _name(address: Address) -> str:
    """Return a default name: the alias or the short host name; of an IP address, the address itself."""
    if address.is_local:
        return addresses.LOCAL
    is_number = ":" in address.host or re.fullmatch(r"[0-9.]+", address.host)
    word = address.host if is_number else address.host.partition(".")[0]
    return re.sub(r"[^A-Za-z0-9._-]", "-", word).strip("-._")[:63].strip("-._") or "board"


def _check_free(text: str, file: Path, entry: Entry, address: Address) -> None:
    try:
        addresses.host_name(entry.name)
    except ValueError as error:
        raise UsageError(f"--name: {error}", code="usage") from error
    known = {
        str(key): part.key.line for section in ("boards", "emulators") for key, part in _members(text, file, section)
    }
    if entry.name in known:
        message = f"{label(file)}:{known[entry.name]}: host {entry.name} is already listed"
        hint = f"name the new one with --name, or remove that one: archloom boards remove {entry.name}"
        raise UsageError(message, hint=hint, code="config")
    if not known:
        return
    for host in _inventory(text, file).hosts:
        same = (address.host.lower(), address.port, address.user or host.address.user)
        if same == (host.address.host.lower(), host.address.port, host.address.user):
            line = find(text, label(file), host.name)[1]
            hint = f"archloom boards {host.name} shows it"
            raise UsageError(f"{label(file)}:{line}: {host.name} already is this machine", hint=hint, code="config")


def _listed_already(text: str, file: Path, entry: Entry) -> Host | None:
    """Return the coordinator's entry where the file lists it already, as a file created by `add` does."""
    members = {str(key): part.item.data for key, part in _members(text, file, entry.section)}
    return _host(text, file, entry.name) if members.get(entry.name) == addresses.LOCAL else None


def _members(text: str, file: Path, section: str) -> list[tuple[str | int, yaml_source.Part]]:
    return yaml_source.parse(text.removeprefix("\ufeff"), label(file)).members(section)


def _inventory(text: str, file: Path) -> Inventory:
    return inventory(yaml_source.parse(text.removeprefix("\ufeff"), label(file)), file)


def _host(text: str, file: Path, name: str) -> Host:
    host = _inventory(text, file).host(name)
    if host is None:
        raise UsageError(f"{label(file)} does not name {name} after it was added", code="config")
    return host


def listed(file: Path, name: str) -> Host:
    """Return the host of this name in this file. Raises UsageError, with similar names, where there is none."""
    find(read_text(file), label(file), name)
    host = load(file).host(name)
    if host is None:
        raise UsageError(f"there is no host {name} in {label(file)}", code="config")
    return host
