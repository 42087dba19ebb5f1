"""Machines that another tool lists, before they are converted to inventory entries."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from coordinator.config import addresses
from coordinator.domain.hosts.inventory import Address
from coordinator.domain.image.platforms import Platform

_MAX_NAMES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """`name` is the name in the source. `place` is the `host:port` of an alias; empty where the address has it."""

    name: str
    address: Address
    platforms: tuple[Platform, ...] = ()
    place: str = ""

    @property
    def identity(self) -> str:
        """A key that is equal for two spellings of one machine, and for two users of one machine."""
        if self.address.is_local:
            return addresses.LOCAL
        return (self.place or f"{self.address.host}:{self.address.port or 22}").lower()


@dataclass(frozen=True, slots=True)
class Found:
    """`source` is the path for messages; `notes` say what was left out or is uncertain, and why."""

    source: str
    machines: tuple[Machine, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SshLine:
    """A line that ~/.ssh/config needs to reach this host: archloom stores no identity files and no jump hosts."""

    name: str
    host: str
    line: str


def ssh_config_notes(lines: Iterable[SshLine]) -> list[str]:
    """Return a note for each line, with all hosts that need it, ready to paste."""
    by_line: dict[str, list[SshLine]] = {}
    for line in lines:
        # A line break in a value would start another line where the note is pasted.
        by_line.setdefault(re.sub(r"[\r\n]+", " ", line.line), []).append(line)
    return [
        f"{several(each.name for each in group)}: keys and jump hosts belong in ~/.ssh/config — add there:\n"
        f"Host {' '.join(dict.fromkeys(each.host for each in group))}\n  {line}"
        for line, group in by_line.items()
    ]


def several(names: Iterable[str]) -> str:
    """Return the names, comma-separated; of more than five, the first four and the number of the others."""
    listed = list(dict.fromkeys(names))
    if len(listed) <= _MAX_NAMES:
        return ", ".join(listed)
    return f"{', '.join(listed[: _MAX_NAMES - 1])} and {len(listed) - _MAX_NAMES + 1} more"


def ssh_address(url: str) -> Address:
    """Return the address of `ssh://[user@]host[:port][/socket]`. Raises ValueError, which never repeats a password."""
    rest = url.partition("://")[2].partition("?")[0]
    return addresses.target(f"ssh://{rest.partition('/')[0]}")
