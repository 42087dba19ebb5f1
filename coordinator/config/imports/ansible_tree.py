"""Ansible's inventories in tree form: YAML files, and the JSON of `ansible-inventory --list` and inventory scripts."""

from __future__ import annotations

from coordinator.config.imports.ansible_groups import Groups, expanded
from coordinator.config.imports.files import items, members, word

_ALL, _META = "all", "_meta"
_OLDER_UNGROUPED = "ungrouped"


def read(document: dict[str, object]) -> Groups:
    """Return the groups of this document. Raises ValueError for an invalid range of hosts."""
    groups = Groups()
    for name, body in document.items():
        if name == _META:
            for host, variables in members(members(body).get("hostvars")).items():
                groups.add_host(host, members(variables), _ALL)
        else:
            _group(groups, name, body)
    return groups


def _group(groups: Groups, name: str, body: object) -> None:
    group = groups.group(name)
    parts = members(body)
    for key, variables in members(parts.get("hosts")).items():
        for host in expanded(key):
            groups.add_host(host, members(variables), name)
    # An inventory script may print the hosts, or the group itself, as a list.
    for entry in [*items(parts.get("hosts")), *items(body)]:
        for host in expanded(word(entry)):
            groups.add_host(host, {}, name)
    group.variables |= members(parts.get("vars"))
    children = parts.get("children")
    for child, inside in members(children).items():
        group.children.append(child)
        _group(groups, child, inside)
    for subgroup in items(children):
        child = word(subgroup) or _OLDER_UNGROUPED
        group.children.append(child)
        groups.group(child)
