"""The hosts and registries a run may use, as values. `config` reads them from `inventory.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from coordinator.domain.image.platforms import Platform


class Kind(StrEnum):
    BOARD = "board"
    EMULATOR = "emulator"


class HostState(StrEnum):
    """`drain`: finishes what it has and is given nothing new."""

    ACTIVE = "active"
    DRAIN = "drain"


class Use(StrEnum):
    BUILD = "build"
    RUN = "run"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a host is. `local` when `host` is empty: this machine, through a child process.

    `user` and `port` are empty and 0 where the SSH configuration decides.
    """

    host: str = ""
    user: str = ""
    port: int = 0

    @property
    def is_local(self) -> bool:
        return not self.host

    def __str__(self) -> str:
        if self.is_local:
            return "local"
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{user}{host}" + (f":{self.port}" if self.port else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One entry of the inventory. `platforms` is the user's pin, empty when the probe decides.

    `jobs` is how many builds it takes from us at once; `None`: one on a board, one per core up to four on an emulator.
    """

    name: str
    kind: Kind
    address: Address
    jobs: int | None = None
    state: HostState = HostState.ACTIVE
    use: tuple[Use, ...] = ()
    platforms: tuple[Platform, ...] = ()
    emulate: tuple[Platform, ...] = ()
    connect_timeout: float = 5.0
    host_key: str = ""
    min_free: float = 0.1
    keep_built: float = 24 * 3600.0
    cache_budget: int | None = None
    engine: str = "auto"
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    """How to reach one registry. `http` is never guessed for a host that is not loopback."""

    host: str
    http: bool = False
    ca: str = ""
    via: str = "tunnel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """`source` is the file it came from, empty for the built-in one (this machine as the emulator)."""

    hosts: tuple[Host, ...]
    registries: Mapping[str, RegistrySettings] = field(default_factory=dict)
    source: str = ""

    def host(self, name: str) -> Host | None:
        return next((host for host in self.hosts if host.name == name), None)


def builtin() -> Inventory:
    """What is used when there is no inventory file: `local` is the emulator."""
    return Inventory(hosts=(Host(name="local", kind=Kind.EMULATOR, address=Address()),))
