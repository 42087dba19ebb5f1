"""The route to a host as `ssh` takes it: address, user, keys, known_hosts files, and ProxyCommand or jump hosts."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.domain.hosts.inventory import Address
from coordinator.errors import UsageError
from coordinator.hosts.ssh.config import SYSTEM, Settings, expand, read_settings

PORT = 22
_MAX_JUMPS = 8
_JUMP = re.compile(r"(?:ssh://)?(?:(?P<user>.+)@)?(?:\[(?P<v6>[^]]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>\d+))?/?\Z")
_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
_USER_FILES = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_GLOBAL_FILES = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How to connect to a host, by its address and the SSH configuration.

    `name` is the host as it was written, `host` its real name or address, `alias` HostKeyAlias. `identities` are the
    key files to offer, `certificates` those of CertificateFile; `chosen`: IdentityFile names them; `only`:
    IdentitiesOnly is set. `agent` is the ssh-agent's socket, empty for no ssh-agent. `entry` is a jump host's entry in
    ProxyJump. `settings` are all values of the configuration, by keyword in lower case.
    """

    name: str
    host: str
    port: int
    user: str
    identities: tuple[Path, ...]
    known_hosts: tuple[Path, ...]
    certificates: tuple[Path, ...] = ()
    alias: str = ""
    chosen: bool = False
    only: bool = False
    agent: str = ""
    proxy: str = ""
    jump: Route | None = None
    entry: str = ""
    settings: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.user}@{self.name}" + (f" port {self.port}" if self.port != PORT else "")


def read_route(address: Address, home: Path, system: Path = SYSTEM) -> Route:
    """Return the route to this address. Raises UsageError for an invalid configuration."""
    return _route(address, home, system, 0)


def _route(address: Address, home: Path, system: Path, depth: int) -> Route:
    if depth > _MAX_JUMPS:
        raise UsageError(f"the jump hosts of {address.host} form a loop", hint="correct ProxyJump in ~/.ssh/config")
    settings = read_settings(address.host, home, system, address.user, address.port)
    try:
        route = _own(settings)
        jumps = list(_jumps(settings))
    except ValueError as error:
        raise UsageError(f"~/.ssh/config, for {address.host}: {error}", code="config") from error
    jump: Route | None = None
    for entry, via in jumps:
        found = dataclasses.replace(_route(via, home, system, depth + 1), entry=entry)
        # As with ssh -J: the first jump host is reached by its own route, each later one through the previous one.
        jump = found if jump is None else dataclasses.replace(found, jump=jump, proxy="")
    return route if jump is None else dataclasses.replace(route, jump=jump, proxy="")


def _own(settings: Settings) -> Route:
    """Return the route without its jump hosts. Raises ValueError."""
    values = settings.values
    keys = values.get("identityfile", [f"~/.ssh/{name}" for name in _DEFAULT_KEYS])
    known = [*values.get("userknownhostsfile", _USER_FILES), *values.get("globalknownhostsfile", _GLOBAL_FILES)]
    command = settings.first("proxycommand", "none")
    return Route(
        name=settings.name,
        host=settings.hostname,
        port=int(settings.first("port", str(PORT))),
        user=settings.login,
        identities=tuple(settings.path(name) for name in keys if name.lower() != "none"),
        known_hosts=tuple(settings.path(name) for name in known if name.lower() != "none"),
        certificates=tuple(settings.path(name) for name in values.get("certificatefile", []) if name.lower() != "none"),
        alias=settings.first("hostkeyalias").lower(),
        chosen="identityfile" in values,
        only=settings.is_yes("identitiesonly"),
        agent=_agent(settings),
        proxy="" if command.lower() == "none" else expand(command, settings.tokens()),
        settings=values,
    )


def _jumps(settings: Settings) -> Iterator[tuple[str, Address]]:
    """Yield the entries of ProxyJump and their addresses. Raises ValueError."""
    named = settings.first("proxyjump", "none")
    if named.lower() == "none":
        return
    for entry in expand(named, settings.tokens()).split(","):
        match = _JUMP.match(entry.strip())
        if match is None:
            raise ValueError(f"ProxyJump {named} is not a list of [user@]host[:port]")
        yield entry.strip(), Address(match["v6"] or match["host"], match["user"] or "", int(match["port"] or 0))


def _agent(settings: Settings) -> str:
    named = settings.first("identityagent", "SSH_AUTH_SOCK")
    if named == "SSH_AUTH_SOCK" or (named.startswith("$") and not named.startswith("${")):
        return os.environ.get(named.removeprefix("$"), "")
    return "" if named.lower() == "none" else str(settings.path(named))


def short(path: Path) -> str:
    """Return the path with the home folder as `~`."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
