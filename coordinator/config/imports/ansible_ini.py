"""Ansible's INI inventories: `[group]`, `[group:vars]`, `[group:children]`, and hosts followed by variables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from coordinator.config.imports.ansible_groups import Groups, Variables, expanded
from coordinator.config.problems import Problem, found, refusal

_SECTION = re.compile(r"\[([^:\]]+)(?::(\w+))?\]\s*(?:[#;].*)?\Z")
_KINDS = ("hosts", "vars", "children")
_UNGROUPED = "ungrouped"


def read(text: str, label: str, hint: str) -> Groups:
    """Return the groups in this text. Raises one UsageError with every line that Ansible would reject too."""
    groups, problems = Groups(), []
    name, kind = _UNGROUPED, "hosts"
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        try:
            if line.startswith("[") and not _is_host(line):
                name, kind = _section(line)
                groups.group(name)
            else:
                _line(groups, name, kind, line)
        except ValueError as error:
            problems.append(Problem(number, 1, "", str(error)))
    if problems:
        raise refusal(label, problems, hint)
    return groups


def _is_host(line: str) -> bool:
    """Return whether a line that begins with `[` is a host, `[fd00::21]:22` or the range `[1:3].lan`, not a section."""
    return re.match(r"\[[0-9A-Fa-f]*:[0-9A-Fa-f:.]*\]|\[\w+:\w+\]\S", line) is not None and not _SECTION.match(line)


def _section(line: str) -> tuple[str, str]:
    match = _SECTION.match(line)
    if not match:
        raise ValueError(f"expected [group], [group:vars] or [group:children], found {found(line)}")
    kind = match[2] or "hosts"
    if kind not in _KINDS:
        raise ValueError(f"unknown section kind {found(kind)}: expected vars or children")
    return match[1].strip(), kind


def _line(groups: Groups, name: str, kind: str, line: str) -> None:
    if kind == "vars":
        key, separator, value = line.partition("=")
        if not separator:
            raise ValueError(f"expected key=value, found {found(line)}")
        groups.group(name).variables[key.strip()] = _unquoted(value)
        return
    words = _words(line)
    if kind == "children":
        groups.group(words[0])
        groups.group(name).children.append(words[0])
        return
    variables = dict(_pairs(words[1:]))
    for host in expanded(words[0]):
        bare, port = _port(host)
        groups.add_host(bare, port | variables, name)


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError as error:
        raise ValueError("unclosed quote") from error


def _pairs(words: list[str]) -> Iterator[tuple[str, object]]:
    for word in words:
        key, separator, value = word.partition("=")
        if not separator:
            raise ValueError(f"expected key=value after the host, found {found(word)}")
        yield key, value


def _unquoted(value: str) -> str:
    bare = re.split(r"\s[#;]", value.strip(), maxsplit=1)[0].strip()
    return bare[1:-1] if re.fullmatch(r"'.*'|\".*\"", bare) else bare


def _port(host: str) -> tuple[str, Variables]:
    """Split `host:port` or `[v6]:port` into the host and its port variable; a bare IPv6 address has no port."""
    match = re.fullmatch(r"\[(?P<v6>[^\]]+)\](?::(?P<port6>\d+))?|(?P<name>[^:]+):(?P<port>\d+)", host)
    if not match:
        return host, {}
    port = match["port6"] or match["port"]
    return match["v6"] or match["name"], {"ansible_port": port} if port else {}
