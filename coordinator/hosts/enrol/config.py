"""Reads the route to a host as `ssh` does: user and system ssh_config, with Include, Match and jump hosts."""

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
_MAX_INCLUDE_DEPTH = 16
_MAX_JUMPS = 8
_KEYWORD = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.+?)\s*\Z")
_JUMP = re.compile(r"(?:ssh://)?(?:(?P<user>.+)@)?(?:\[(?P<v6>[^]]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>\d+))?/?\Z")
_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


@dataclass(frozen=True, slots=True)
class Route:
    """How to connect to a host: address, user, keys, and ProxyCommand or jump host.

    `alias` is HostKeyAlias. `identities` are the key files to offer; `chosen`: IdentityFile names them; `only`:
    IdentitiesOnly is set. `agent` is the ssh-agent's socket, empty for the default one and `none` for no ssh-agent.
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
    """Return the route to this address.

    `user` is the login user where neither the address nor the configuration has one. Raises UsageError for an invalid
    configuration.
    """
    return _route(address, _config(home, system), home, user, 0)


def _route(address: Address, config: SSHConfig, home: Path, user: str, depth: int) -> Route:
    if depth > _MAX_JUMPS:
        raise UsageError(f"the jump hosts of {address.host} lead in a circle", hint="see ProxyJump in ~/.ssh/config")
    settings = _lookup(config, address.host)
    jump, proxy_jump = None, settings.get("proxyjump", "none")
    for hop in [] if proxy_jump.lower() == "none" else proxy_jump.split(","):
        match = _JUMP.match(hop.strip())
        if match is None:
            raise UsageError(f"ProxyJump {proxy_jump} is no list of [user@]host[:port]", hint="see ~/.ssh/config")
        via = Address(match["v6"] or match["host"], match["user"] or "", int(match["port"] or 0))
        route = _route(via, config, home, user, depth + 1)
        # As with ssh -J: the first jump host is reached by its own route, each later one through the previous one.
        jump = route if jump is None else _through(route, jump)
    named: str | list[str] = settings.get("identityfile") or []
    identities = [named] if isinstance(named, str) else named
    known = settings.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2")
    known += " " + settings.get("globalknownhostsfile", "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2")
    agent = settings.get("identityagent", "")
    return Route(
        name=address.host,
        host=settings["hostname"],
        port=address.port or _port(settings),
        user=address.user or settings.get("user", user),
        identities=tuple(_path(path, home) for path in identities)
        or tuple(home / ".ssh" / name for name in _DEFAULT_KEYS),
        known_hosts=tuple(_path(path, home) for path in shlex.split(known) if path.lower() != "none"),
        alias=settings.get("hostkeyalias", ""),
        chosen=bool(identities),
        only=settings.get("identitiesonly", "no").lower() == "yes",
        agent="" if agent == "SSH_AUTH_SOCK" else str(_path(agent, home)) if agent else "",
        proxy="" if jump else settings.get("proxycommand") or "",
        jump=jump,
    )


def _port(settings: SSHConfigDict) -> int:
    port = str(settings.get("port", PORT))
    if not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UsageError(f"Port {port} in ~/.ssh/config is no port", hint="a port is a number from 1 to 65535")
    return int(port)


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
    """Yield the lines of this file with included files expanded in place, because paramiko ignores Include.

    `outer` are the criteria of the enclosing blocks. As in ssh_config(5), the criteria of the block that contains an
    Include apply to the blocks of the included file, and to the lines after it. A file that does not exist has no
    lines. Raises UsageError `config`.
    """
    if depth > _MAX_INCLUDE_DEPTH:
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
    """Return the user that ssh logs in as by default: `LOGNAME`, else `USER`, else `fallback`."""
    return environ.get("LOGNAME") or environ.get("USER") or fallback
