"""The way to a board that `ssh` would take: `~/.ssh/config` and the system's, with Include, Match and jump hosts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.domain.hosts.inventory import Address
from coordinator.errors import UsageError

if TYPE_CHECKING:
    from paramiko import SSHConfig, SSHConfigDict

SYSTEM = Path("/etc/ssh")
PORT = 22
_DEEPEST = 16
_MOST_JUMPS = 8
_KEYWORD = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.+?)\s*\Z")
_JUMP = re.compile(r"(?:ssh://)?(?:(?P<user>.+)@)?(?:\[(?P<v6>[^]]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>\d+))?/?\Z")
_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


@dataclass(frozen=True, slots=True)
class Route:
    """Where a connection goes, as whom, and through what. `alias` is the name that known_hosts may have it under.

    `identities` are the key files to offer, `chosen` whether the configuration names them, `only` whether no others
    are to be offered. `agent` is the agent's socket, empty for the usual one and `none` for none.
    """

    name: str
    host: str
    port: int
    user: str
    identities: tuple[Path, ...]
    known_hosts: tuple[Path, ...]
    alias: str = ""
    chosen: bool = False
    only: bool = False
    agent: str = ""
    proxy: str = ""
    jump: Route | None = None

    def __str__(self) -> str:
        return f"{self.user}@{self.name}" + (f" port {self.port}" if self.port != PORT else "")


def read_route(address: Address, home: Path, user: str, system: Path = SYSTEM) -> Route:
    """The way to this address. `user` logs in where nobody else is named. Raises UsageError for a bad configuration."""
    return _route(address, _config(home, system), home, user, 0)


def _route(address: Address, config: SSHConfig, home: Path, user: str, depth: int) -> Route:
    if depth > _MOST_JUMPS:
        raise UsageError(f"the jump hosts of {address.host} lead in a circle", hint="see ProxyJump in ~/.ssh/config")
    found = _lookup(config, address.host)
    jump, before = None, found.get("proxyjump", "none")
    for hop in [] if before.lower() == "none" else before.split(","):
        match = _JUMP.match(hop.strip())
        if match is None:
            raise UsageError(f"ProxyJump {before} is no list of [user@]host[:port]", hint="see ~/.ssh/config")
        via = Address(match["v6"] or match["host"], match["user"] or "", int(match["port"] or 0))
        route = _route(via, config, home, user, depth + 1)
        # As with ssh -J: the first is reached in its own way, each of the others through the one before.
        jump = route if jump is None else _through(route, jump)
    named: str | list[str] = found.get("identityfile") or []
    identities = [named] if isinstance(named, str) else named
    known = found.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2")
    known += " " + found.get("globalknownhostsfile", "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2")
    agent = found.get("identityagent", "")
    return Route(
        name=address.host,
        host=found["hostname"],
        port=address.port or _port(found),
        user=address.user or found.get("user", user),
        identities=tuple(_path(path, home) for path in identities)
        or tuple(home / ".ssh" / name for name in _DEFAULT_KEYS),
        known_hosts=tuple(_path(path, home) for path in shlex.split(known) if path.lower() != "none"),
        alias=found.get("hostkeyalias", ""),
        chosen=bool(identities),
        only=found.get("identitiesonly", "no").lower() == "yes",
        agent="" if agent == "SSH_AUTH_SOCK" else str(_path(agent, home)) if agent else "",
        proxy="" if jump else found.get("proxycommand") or "",
        jump=jump,
    )


def _port(found: SSHConfigDict) -> int:
    written = str(found.get("port", PORT))
    if not written.isdecimal() or not 0 < int(written) < 1 << 16:
        raise UsageError(f"Port {written} in ~/.ssh/config is no port", hint="a port is a number from 1 to 65535")
    return int(written)


def _through(route: Route, jump: Route) -> Route:
    import dataclasses

    return dataclasses.replace(route, jump=jump, proxy="")


def _lookup(config: SSHConfig, host: str) -> SSHConfigDict:
    from paramiko.ssh_exception import ConfigParseError, CouldNotCanonicalize

    try:
        return config.lookup(host)
    except (ConfigParseError, CouldNotCanonicalize, ValueError, KeyError) as error:
        raise UsageError(
            f"~/.ssh/config cannot be read for {host}: {error}", hint=f"ssh -G {host} says more"
        ) from error


def _config(home: Path, system: Path) -> SSHConfig:
    from paramiko import SSHConfig
    from paramiko.ssh_exception import ConfigParseError

    lines: list[str] = []
    for path, folder in ((home / ".ssh" / "config", home / ".ssh"), (system / "ssh_config", system)):
        lines += ["Host *", *_expanded(path, folder, home, (), 0)]
    try:
        return SSHConfig.from_text("\n".join(lines))
    except (ConfigParseError, ValueError) as error:
        raise UsageError(
            f"~/.ssh/config cannot be read: {error}", hint="ssh -G HOST says more", code="config"
        ) from error


def _expanded(path: Path, folder: Path, home: Path, outer: tuple[str, ...], depth: int) -> Iterator[str]:
    """The lines of this file with those it includes in place. `outer`: what must match for any of them to count.

    paramiko's own reader passes over Include. What a block of the including file asks for is asked for in the included
    one's blocks too, and holds again behind it, as ssh_config(5) has it.
    """
    if depth > _DEEPEST:
        raise UsageError(f"{path} is included too deeply", hint="does a file of ~/.ssh include itself?", code="config")
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", code="config") from error
    criteria = outer
    for line in text.splitlines():
        found = None if line.lstrip().startswith("#") else _KEYWORD.match(line)
        match (found[1].lower(), found[2]) if found else ("", ""):
            case ("host", patterns):
                criteria = (*outer, f"originalhost {_quoted(','.join(_words(patterns, path)))}")
                yield _block(criteria)
            case ("match", rest):
                criteria = outer if rest.strip().lower() == "all" else (*outer, rest)
                yield _block(criteria)
            case ("include", names):
                for name in _words(names, path):
                    for included in _included(name, folder, home):
                        yield _block(criteria)
                        yield from _expanded(included, folder, home, criteria, depth + 1)
                yield _block(criteria)
            case _:
                yield line


def _block(criteria: tuple[str, ...]) -> str:
    return f"Match {' '.join(criteria)}" if criteria else "Host *"


def _words(text: str, path: Path) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError as error:
        raise UsageError(f"{path}: a quote does not end in {text!r}", code="config") from error


def _quoted(text: str) -> str:
    return f'"{text}"' if " " in text else text


def _included(name: str, folder: Path, home: Path) -> list[Path]:
    path = folder / _path(name, home)
    return sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))


def _path(text: str, home: Path) -> Path:
    text = text.strip('"').replace("%d", str(home))
    return home / text[2:] if text.startswith("~/") else Path(text)


def login_user(environ: Mapping[str, str], fallback: str) -> str:
    """Who ssh logs in as where nobody is named."""
    return environ.get("LOGNAME") or environ.get("USER") or fallback
