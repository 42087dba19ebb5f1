"""The hosts and registries that a run may use, as values. `config` reads them from `inventory.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from coordinator.domain.image.platforms import Platform


class Kind(StrEnum):
    BOARD = "board"
    EMULATOR = "emulator"


class HostState(StrEnum):
    """`drain`: the host finishes its jobs and gets no new ones."""

    ACTIVE = "active"
    DRAIN = "drain"


class Use(StrEnum):
    BUILD = "build"
    RUN = "run"


class Pins(StrEnum):
    """How the children in a registry are found again and kept from its clean-up.

    `keep`: by a tag each. `store`: by a row in the store of the coordinator that built them, without a tag. `off`: not
    at all.
    """

    KEEP = "keep"
    STORE = "store"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a host. An empty `host` is `local`: the coordinator's machine, through a child process.

    `user` is empty and `port` is 0 where the SSH configuration decides.
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
    """One entry of the inventory. `platforms` limits the host to these platforms; empty where the probe decides.

    `jobs` is how many builds this coordinator runs on it at once; `None` means one on a board, and one per core up to
    four on an emulator. `reconnect_for` is how long a run waits for the host when it no longer answers; this and the
    other times are in seconds. `memory_floor` is in bytes; `None` means the agent's default, 0 that no build is ended
    for memory.
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
    reconnect_for: float = 60.0
    host_key: str = ""
    min_free: float = 0.1
    keep_built: float = 24 * 3600.0
    cache_budget: int | None = None
    memory_floor: int | None = None
    engine: str = "auto"
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    """How to reach one registry, and how to pin children in it.

    Plain HTTP is never assumed for a host that is not loopback. `http_hosts` are all for which the inventory allows it:
    the token server of a registry may be another one of these.
    """

    host: str
    http: bool = False
    ca: str = ""
    via: str = "tunnel"
    pins: Pins = Pins.KEEP
    http_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """`source` is the inventory file, empty for the built-in inventory (the coordinator's machine as the emulator).

    `registry_patience` is how many seconds a run waits for a registry that fails in the middle of it.
    """

    hosts: tuple[Host, ...]
    registries: Mapping[str, RegistrySettings] = field(default_factory=dict)
    registry_patience: float = 300.0
    source: str = ""

    def host(self, name: str) -> Host | None:
        return next((host for host in self.hosts if host.name == name), None)


def builtin() -> Inventory:
    """Return the inventory that is used without an inventory file: `local` as the emulator."""
    return Inventory(hosts=(Host(name="local", kind=Kind.EMULATOR, address=Address()),))
