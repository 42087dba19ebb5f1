"""`archloom boards trust`: write a host's new key into its inventory entry once the user has compared it."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.config.edit import with_host_key
from coordinator.config.locate import find, label
from coordinator.config.rewrite import rewrite
from coordinator.domain.hosts.inventory import Host
from coordinator.environment import Environment
from coordinator.errors import UsageError
from coordinator.hosts.enrol.connect import fetch_key
from coordinator.hosts.ssh.known_hosts import HostKey, RecordedKeys, Verdict, parse_key, read_known_hosts
from coordinator.hosts.ssh.route import Route, read_route
from coordinator.usecases.boards.add import given, listed
from coordinator.usecases.boards.console import Console
from coordinator.usecases.boards.host_key import Question, command, confirm, given_key, is_key, refuse_revoked


@dataclass(frozen=True, slots=True)
class Trusted:
    """`key` is the key that the host shows; `is_new`: the inventory was changed for it."""

    key: HostKey
    is_new: bool


def trust(name: str, host_key: str, file: str | None, env: Environment, console: Console) -> Trusted:
    """Write the key that the host shows now into the inventory, which takes precedence over `~/.ssh/known_hosts`.

    known_hosts is not changed. Raises UsageError where the key is neither given nor confirmed by the user, LostError
    where the host cannot be reached.
    """
    path = find(file, env.environ, env.folder, env.home)
    if path is None:
        raise UsageError("there is no inventory file", hint="archloom boards add USER@HOST creates one", code="config")
    host = listed(path, name)
    if host.address.is_local:
        raise UsageError(f"{name} is this machine, which needs no host key", code="usage")
    route = read_route(host.address, env.home)
    record = read_known_hosts(route).record()
    question = Question(route, given(host_key), command("boards", "trust", name, inventory=file), host.connect_timeout)
    key = given_key(question) if question.given else fetch_key(route, host.connect_timeout, _types(host, record))
    refuse_revoked(route, record, key)
    if is_key(host.host_key, key) if host.host_key else record.verdict(key) is Verdict.KNOWN:
        return Trusted(key, is_new=False)
    if not question.given:
        confirm(question, key, f"{_before(host, route, record)}\nIt shows now", console)
    rewrite(path, lambda text: with_host_key(text, label(path), name, key.line))
    return Trusted(key, is_new=True)


def _types(host: Host, record: RecordedKeys) -> tuple[str, ...]:
    """Return the key types on record."""
    pinned = parse_key(host.host_key)
    return (pinned.type,) if pinned else record.types


def _before(host: Host, route: Route, record: RecordedKeys) -> str:
    """Return the text that shows the user which key is on record."""
    if host.host_key:
        pinned = parse_key(host.host_key)
        return f"{host.name} is pinned in the inventory to\n  {pinned or host.host_key}"
    if record.keys:
        return "\n".join([f"known_hosts has for {route.name}", *(f"  {key}" for key in record.keys)])
    return f"There is no host key on record for {host.name}."
