"""Nodes of the builders that `docker buildx create` created."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.config.imports import files
from coordinator.config.imports.files import word
from coordinator.config.imports.found import Found, Machine, ssh_address
from coordinator.domain.hosts.inventory import Address
from coordinator.domain.image import platforms
from coordinator.domain.image.platforms import Platform
from coordinator.errors import UsageError

_HINT = "docker buildx ls lists builders; add hosts one by one: archloom boards add USER@HOST"
_DEFAULT = "default"
_LOCAL_SCHEMES = ("unix", "npipe", "fd")
_ENGINES = ("docker-container", "docker", "")
_X86 = ("amd64", "386")


@dataclass(slots=True)
class _Taken:
    """What is known besides machines. `contexts`: the endpoint of each Docker context, by name."""

    contexts: Mapping[str, str]
    notes: list[str] = field(default_factory=list)


def read(environ: Mapping[str, str], home: Path) -> Found:
    """Return the nodes of all builders in $BUILDX_CONFIG, or in `buildx` of $DOCKER_CONFIG or ~/.docker.

    Raises UsageError where there is no readable builder.
    """
    docker = Path(environ.get("DOCKER_CONFIG") or home / ".docker")
    folder = Path(environ.get("BUILDX_CONFIG") or docker / "buildx") / "instances"
    label = files.shown(folder, home)
    taken = _Taken(_contexts(docker / "contexts" / "meta", environ))
    builders = list(_builders(folder, label, taken))
    machines = tuple(machine for name, builder in builders for machine in _nodes(name, builder, taken))
    return Found(label, machines, tuple(taken.notes))


def _builders(folder: Path, label: str, taken: _Taken) -> Iterator[tuple[str, dict[str, object]]]:
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except FileNotFoundError as error:
        raise UsageError(f"there is no folder {label}", hint=_HINT, code="import") from error
    except OSError as error:
        raise UsageError(f"cannot read {label}: {error.strerror}", hint=_HINT, code="import") from error
    if not paths:
        raise UsageError(f"there is no builder in {label}", hint=_HINT, code="import")
    broken: list[UsageError] = []
    for path in paths:
        where = f"{label}/{path.name}"
        try:
            builder = files.json_document(files.text(path, where, _HINT), where, _HINT)
        except UsageError as error:
            broken.append(error)
            continue
        yield path.name, files.members(builder)
    if len(broken) == len(paths):
        raise broken[0]
    taken.notes += [error.message for error in broken]


def _contexts(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the endpoints by context. An unreadable context is left out: a node that names it gets a note."""
    contexts = {_DEFAULT: environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"}
    for path in sorted(folder.glob("*/meta.json")):
        try:
            meta = files.members(files.json_document(files.text(path, str(path), ""), str(path), ""))
        except UsageError:
            continue
        endpoint = files.members(files.members(meta.get("Endpoints")).get("docker"))
        contexts[word(meta.get("Name"))] = word(endpoint.get("Host"))
    return contexts


def _nodes(file: str, builder: dict[str, object], taken: _Taken) -> Iterator[Machine]:
    name = word(builder.get("Name")) or file
    driver = word(builder.get("Driver"))
    for node in map(files.members, files.items(builder.get("Nodes"))):
        title = word(node.get("Name")) or name
        if driver not in _ENGINES:
            taken.notes.append(f"{title}: left out, the builder {name} has the driver {driver}, which is not a host")
            continue
        yield from _node(name, title, node, taken)


def _node(builder: str, title: str, node: dict[str, object], taken: _Taken) -> Iterator[Machine]:
    written = word(node.get("Endpoint"))
    endpoint = written if "://" in written else taken.contexts.get(written or _DEFAULT, "")
    scheme = endpoint.partition("://")[0].lower()
    if not endpoint:
        taken.notes.append(f"{title}: left out, there is no docker context {written}")
    elif scheme in _LOCAL_SCHEMES:
        # The coordinator is an emulator: `platforms:` would keep it from emulating others.
        yield Machine(name=title, address=Address())
    elif scheme != "ssh":
        taken.notes.append(f"{title}: left out, archloom reaches hosts by SSH, not by {scheme}: {_shown(endpoint)}")
    else:
        try:
            address = ssh_address(endpoint)
        except ValueError as error:
            taken.notes.append(f"{title}: left out, {error}")
            return
        # buildx numbers nodes without a given name: farm0, farm1.
        automatic = re.fullmatch(re.escape(builder) + r"\d+", title) is not None
        context = "" if "://" in written or written == _DEFAULT else written
        name = (context or address.host) if automatic else title
        yield Machine(name=name, address=address, platforms=_pinned(name, node, taken))


def _pinned(name: str, node: dict[str, object], taken: _Taken) -> tuple[Platform, ...]:
    """Return the platforms of `create --platform`: buildx stores only those, and asks the node for the others."""
    pinned: list[Platform] = []
    for member in map(files.members, files.items(node.get("Platforms"))):
        parts = [word(member.get(key)) for key in ("os", "architecture", "variant")]
        text = "/".join(part for part in parts if part)
        try:
            platform = platforms.parse(text)
        except UsageError as error:
            taken.notes.append(f"{name}: the platform {text} is not imported, {error.message}")
            continue
        if platform not in pinned:
            pinned.append(platform)
    families = {platform.architecture in _X86 for platform in pinned}
    if len(families) > 1:
        pins = ", ".join(map(str, pinned))
        taken.notes.append(f"{name}: pinned to {pins}, some of which it must emulate: move it under emulators:")
    return tuple(pinned)


def _shown(endpoint: str) -> str:
    """Return the endpoint without user info, which may contain a password."""
    return re.sub(r"//[^/@]*@", "//", endpoint)
