"""What another tool knows about machines, before it becomes entries of an inventory."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from coordinator.config import addresses
from coordinator.domain.hosts.inventory import Address
from coordinator.domain.image.platforms import Platform

_MOST_NAMES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """`name` is the source's own. `place` is where an alias leads, `host:port`; empty when the address tells."""

    name: str
    address: Address
    platforms: tuple[Platform, ...] = ()
    place: str = ""

    @property
    def identity(self) -> str:
        """The same for two spellings of one machine. The user does not count: a second login is no second machine."""
        if self.address.is_local:
            return addresses.LOCAL
        return (self.place or f"{self.address.host}:{self.address.port or 22}").lower()


@dataclass(frozen=True, slots=True)
class Found:
    """`source` as a person would type it; `notes` say what was left out or is uncertain, and why."""

    source: str
    machines: tuple[Machine, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SshLine:
    """A line of ~/.ssh/config that reaching this host needs; archloom keeps no keys and no jump hosts itself."""

    name: str
    host: str
    line: str


def ssh_config_notes(lines: Iterable[SshLine]) -> list[str]:
    """A note for each line, with all hosts that need it, ready to paste."""
    wanted: dict[str, list[SshLine]] = {}
    for line in lines:
        # A value with a line break would be a line of its own where it is pasted.
        wanted.setdefault(re.sub(r"[\r\n]+", " ", line.line), []).append(line)
    return [
        f"{several(each.name for each in group)}: keys and jump hosts are ~/.ssh/config's — add there:\n"
        f"Host {' '.join(dict.fromkeys(each.host for each in group))}\n  {line}"
        for line, group in wanted.items()
    ]


def several(names: Iterable[str]) -> str:
    """The names, the first few of many."""
    listed = list(dict.fromkeys(names))
    if len(listed) <= _MOST_NAMES:
        return ", ".join(listed)
    return f"{', '.join(listed[: _MOST_NAMES - 1])} and {len(listed) - _MOST_NAMES + 1} more"


def ssh_address(url: str) -> Address:
    """Where `ssh://[user@]host[:port][/socket]` leads. Raises ValueError, which never repeats a password."""
    rest = url.partition("://")[2].partition("?")[0]
    return addresses.target(f"ssh://{rest.partition('/')[0]}")
