"""Hosts, groups and variables of an Ansible inventory, and the precedence of variables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_ALL = "all"
_RANGE = re.compile(r"\[([0-9]+|[A-Za-z]):([0-9]+|[A-Za-z])(?::([0-9]+))?\]")
# A range with more hosts is a typing error, and every host would be printed on a line.
MOST_HOSTS = 1000

Variables = dict[str, object]


@dataclass(slots=True)
class Group:
    hosts: list[str] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    variables: Variables = field(default_factory=dict)


@dataclass(slots=True)
class Groups:
    """The inventory, as the parser of each format fills it in."""

    hosts: dict[str, Variables] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=lambda: {_ALL: Group()})

    def group(self, name: str) -> Group:
        return self.groups.setdefault(name, Group())

    def add_host(self, name: str, variables: Mapping[str, object], group: str) -> None:
        self.hosts.setdefault(name, {}).update(variables)
        members = self.group(group).hosts
        if name not in members:
            members.append(name)

    def resolved(self) -> Iterator[tuple[str, Variables]]:
        """Yield each host with its variables: its own override its groups', a child group's its parents'."""
        parents = self._parents()
        for name, own in self.hosts.items():
            above = self._above(name, parents)
            ranked = sorted(above, key=lambda group: (self._depth(group, parents, frozenset()), group))
            merged: Variables = {}
            for group in (_ALL, *ranked):
                merged |= self.groups[group].variables
            yield name, merged | own

    def _parents(self) -> dict[str, list[str]]:
        parents: dict[str, list[str]] = {}
        for name, group in self.groups.items():
            for child in group.children:
                parents.setdefault(child, []).append(name)
        return parents

    def _above(self, host: str, parents: dict[str, list[str]]) -> set[str]:
        waiting = [name for name, group in self.groups.items() if host in group.hosts]
        above: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name not in above:
                above.add(name)
                waiting += parents.get(name, [])
        return above - {_ALL}

    def _depth(self, group: str, parents: dict[str, list[str]], below: frozenset[str]) -> int:
        """Return the longest distance of a group from `all`. A cycle, which Ansible rejects, is not followed."""
        above = [parent for parent in parents.get(group, []) if parent not in {*below, group, _ALL}]
        return 1 + max((self._depth(parent_group, parents, below | {group}) for parent_group in above), default=0)


def expanded(pattern: str) -> list[str]:
    """Return the hosts of `pi[01:04].lan` or `pi[a:c]`, with both ends and leading zeros.

    Raises ValueError for a range that has no hosts or too many.
    """
    match = _RANGE.search(pattern)
    if not match:
        return [pattern]
    before, after = pattern[: match.start()], expanded(pattern[match.end() :])
    ends = _span(match)
    if not ends or len(ends) * len(after) > MOST_HOSTS:
        size = "no hosts" if not ends else f"more than {MOST_HOSTS} hosts"
        raise ValueError(f"the range {match[0]} has {size}")
    return [f"{before}{middle}{rest}" for middle in ends for rest in after]


def _span(match: re.Match[str]) -> list[str]:
    first, last, step = match[1], match[2], int(match[3] or 1)
    if not step or first.isdigit() != last.isdigit():
        return []
    if first.isdigit():
        width = len(first) if first.startswith("0") else 0
        return [str(number).zfill(width) for number in _bounded(int(first), int(last), step)]
    return [chr(code) for code in _bounded(ord(first), ord(last), step)]


def _bounded(first: int, last: int, step: int) -> range:
    return range(first, min(last, first + step * (MOST_HOSTS + 1)) + 1, step)
