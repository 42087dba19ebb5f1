"""Edits of `inventory.yaml` that change only their own lines: comments, order, quotes and anchors stay byte for byte.

The edited text is parsed before it is returned: its data must be the old data with the change, and nothing else. Where
that is impossible, as for an entry whose anchor other entries use, a UsageError says what to write by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from coordinator.config import yaml_source
from coordinator.config.suggestions import did_you_mean
from coordinator.config.yaml_spans import Member, Outline, Spot, following, outline
from coordinator.errors import UsageError

SECTIONS = ("boards", "emulators")
_BOM = "\ufeff"
_PLAIN = re.compile(r"[A-Za-z0-9@._/:%+=\- ]+\Z")
_COMMENT = re.compile(r"[ \t]*#")
_PROSE = re.compile(r"[ \t]*#( |\r?$)")


@dataclass(frozen=True, slots=True)
class Entry:
    """A new entry of the inventory. Without a `host_key` it is written as its target alone."""

    section: str
    name: str
    target: str
    host_key: str = ""

    @property
    def data(self) -> object:
        return {"host": self.target, "host_key": self.host_key} if self.host_key else self.target

    def lines(self, indent: str = "  ") -> list[str]:
        """Return the lines of the entry in block style, to follow the line of its section."""
        if not self.host_key:
            return [f"{indent}{self.name}: {scalar(self.target)}"]
        keys = {"host": self.target, "host_key": self.host_key}
        return [f"{indent}{self.name}:", *(f"{indent}  {key}: {scalar(value)}" for key, value in keys.items())]

    def flow(self) -> str:
        """Return the entry in flow style, to stand in braces."""
        if not self.host_key:
            return f"{self.name}: {scalar(self.target)}"
        return f"{self.name}: {{host: {scalar(self.target)}, host_key: {scalar(self.host_key)}}}"


def with_host(text: str, label: str, entry: Entry) -> str:
    """Return the document with this entry added at the end of its section."""

    def expected(data: dict[str, Any]) -> None:
        data.setdefault(entry.section, None)
        data[entry.section] = {**(data[entry.section] or {}), entry.name: entry.data}

    def paste() -> str:
        return "\n".join(["write these lines into it:", f"{entry.section}:", *entry.lines()])

    return _edited(text, label, lambda body, where: _add(body, where, entry), expected, paste)


def without_host(text: str, label: str, name: str) -> str:
    """Return the document without this entry and its comments. Raises UsageError for an unknown name."""
    section, _ = find(text, label, name)

    def expected(data: dict[str, Any]) -> None:
        del data[section][name]
        data[section] = data[section] or None

    def remove(body: str, where: Outline) -> str | None:
        part = where.root.member(section) if where.root else None
        return _remove(body, part.value if part else None, name)

    return _edited(text, label, remove, expected, lambda: f"remove {name} from {section}: by hand")


def with_host_key(text: str, label: str, name: str, key: str) -> str:
    """Return the document with this `host_key` set in the entry. Raises UsageError for an unknown name."""
    section, _ = find(text, label, name)

    def expected(data: dict[str, Any]) -> None:
        before = data[section][name]
        known = {"host": before} if isinstance(before, str) else before or {}
        data[section][name] = {**known, "host_key": key}

    def pin(body: str, where: Outline) -> str | None:
        part = where.root.member(section) if where.root else None
        member = part.value.member(name) if part else None
        return _pin(body, member, key, in_flow=bool(part and part.value.flow))

    hint = f"write this into {section}.{name}:\nhost_key: {scalar(key)}"
    return _edited(text, label, pin, expected, lambda: hint)


def find(text: str, label: str, name: str) -> tuple[str, int]:
    """Return the section and the line of this entry. Raises UsageError for an unknown name."""
    source = yaml_source.parse(text.removeprefix(_BOM), label)
    known = {str(key): (section, part.key.line) for section in SECTIONS for key, part in source.members(section)}
    if name not in known:
        suggestion = did_you_mean(name, known) if known else " — it has none"
        raise UsageError(f"there is no host {name} in {label}{suggestion}", code="config")
    return known[name]


def scalar(text: str) -> str:
    """Return the text as a YAML scalar, quoted only where it would be parsed as another value."""
    if _PLAIN.match(text):
        try:
            # Flow style (braces) allows fewer characters in a plain scalar than block style.
            root = yaml_source.parse(f"k: {text}\nin: {{k: {text}, l: 1}}", "").root
        except UsageError:
            root = None
        if root is not None and root.data == {"k": text, "in": {"k": text, "l": 1}}:
            return text
    return json.dumps(text, ensure_ascii=False)


def _edited(
    text: str,
    label: str,
    change: Callable[[str, Outline], str | None],
    expected: Callable[[dict[str, Any]], None],
    by_hand: Callable[[], str],
) -> str:
    body = text.removeprefix(_BOM)
    expected_data = _data(body, label)
    expected(expected_data)
    edited = change(body, outline(body))
    try:
        is_expected = edited is not None and _normal(_data(edited, label)) == _normal(expected_data)
    except UsageError:
        is_expected = False
    if edited is None or not is_expected:
        raise UsageError(f"{label} is written in a way that cannot be edited safely here", hint=by_hand(), code="edit")
    return text[: len(text) - len(body)] + edited


def _data(body: str, label: str) -> dict[str, Any]:
    root = yaml_source.parse(body, label).root
    data = root.data if root else None
    if data is not None and not isinstance(data, dict):
        raise UsageError(f"{label} is not a map with boards: or emulators:", code="config")
    return {key: dict(part) if isinstance(part, dict) else part for key, part in (data or {}).items()}


def _normal(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data with empty sections as None: an empty map and a missing value mean the same."""
    return {key: part or None if key in SECTIONS else part for key, part in data.items()}


def _add(body: str, where: Outline, entry: Entry) -> str | None:
    end = _newline(body)
    if where.root is None or not where.root.is_map:
        return _appended(body, where.end, [f"{entry.section}:", *entry.lines()], end)
    root = where.root
    part = root.member(entry.section)
    if part is None:
        if root.flow:
            return _in_braces(body, root, f"{entry.section}: {{{entry.flow()}}}")
        margin = " " * root.column
        lines = [f"{margin}{entry.section}:", *entry.lines(f"{margin}  ")]
        return _appended(body, where.end, lines, end)
    value = part.value
    if value.flow and (value.members or root.flow or "\n" in body[value.start : value.end]):
        return _in_braces(body, value, entry.flow())
    if value.members:
        at = _behind(body, value.end, value.column)
        return _spliced(body, at, entry.lines(" " * value.column), end)
    if root.flow or body[value.start : value.start + 1] in {"&", "!", "*"}:
        return None
    without_value = body[: part.key.end] + body[part.key.end : value.start].rstrip(" ") + body[value.end :]
    return _spliced(without_value, _behind(without_value, part.key.end), entry.lines(" " * (root.column + 2)), end)


def _remove(body: str, section: Spot | None, name: str) -> str | None:
    member = section.member(name) if section else None
    if section is None or member is None:
        return None
    after = following(section, name)
    if section.flow:
        if after is not None:
            return body[: member.key.start] + body[after.key.start :]
        before = next((previous.end for previous in reversed(section.members) if previous.end < member.key.start), None)
        return body[: member.key.start if before is None else before] + body[member.end :]
    end = _behind(body, member.end, section.column)
    is_followed = after is not None and _line_start(body, after.key.start) == end
    # A comment above several consecutive entries describes all of them: it stays where another entry follows.
    start = _line_start(body, member.key.start)
    return body[: start if is_followed else _comments_above(body, start, section.column)] + body[end:]


def _pin(body: str, member: Member | None, key: str, *, in_flow: bool) -> str | None:
    if member is None:
        return None
    value, line = member.value, f"host_key: {scalar(key)}"
    known = value.member("host_key")
    if known is not None and known.value.is_empty:
        at = body.index(":", known.key.end) + 1
        return f"{body[:at]} {scalar(key)}{body[at:]}"
    if known is not None:
        return f"{body[: known.value.start]}{scalar(key)}{body[known.value.end :]}"
    if value.flow:
        return _in_braces(body, value, line)
    if in_flow:
        if value.is_empty:
            return None
        return f"{body[: value.start]}{{host: {body[value.start : value.end]}, {line}}}{body[value.end :]}"
    end = _newline(body)
    if value.members:
        host = value.member("host")
        return _spliced(body, _behind(body, host.end if host else value.end), [" " * value.column + line], end)
    column = member.key.start - _line_start(body, member.key.start)
    margin = " " * (column + 2)
    if value.is_empty:
        return _spliced(body, _behind(body, member.key.end), [margin + line], end)
    without_value = body[: member.key.end] + body[member.key.end : value.start].rstrip(" ") + body[value.end :]
    lines = [f"{margin}host: {body[value.start : value.end]}", margin + line]
    return _spliced(without_value, _behind(without_value, member.key.end), lines, end)


def _in_braces(body: str, braces: Spot, text: str) -> str:
    if braces.members:
        at = braces.members[-1].end
        return f"{body[:at]}, {text}{body[at:]}"
    at = braces.end - 1
    return f"{body[:at]}{text}{body[at:]}"


def _appended(body: str, at: int, lines: list[str], end: str) -> str:
    blank = [""] if body[:at].strip() else []
    return _spliced(body, at, [*blank, *lines], end)


def _spliced(body: str, at: int, lines: list[str], end: str) -> str:
    before = body[:at]
    if before and not before.endswith("\n"):
        before += end
    return before + "".join(f"{line}{end}" for line in lines) + body[at:]


def _behind(body: str, end: int, column: int | None = None) -> int:
    """Return the start of the line after this offset, and after comments indented deeper than `column`."""
    if end == 0 or body[end - 1] != "\n":  # a block scalar already ends after its line break
        newline = body.find("\n", end)
        end = len(body) if newline < 0 else newline + 1
    while column is not None:
        at = end
        while at < len(body) and not (line := _line(body, at)).strip():
            at += len(line)
        line = _line(body, at)
        if not _COMMENT.match(line) or len(line) - len(line.lstrip(" ")) <= column:
            break
        end = at + len(line)
    return end


def _comments_above(body: str, start: int, column: int) -> int:
    """Return the start of the comment directly above, at the same indentation; commented-out YAML does not count."""
    while start > 0:
        above = _line_start(body, start - 1)
        line = body[above:start]
        if not _PROSE.match(line.rstrip("\n")) or len(line) - len(line.lstrip(" ")) != column:
            break
        start = above
    return start


def _line_start(body: str, at: int) -> int:
    return body.rfind("\n", 0, at) + 1


def _line(body: str, at: int) -> str:
    newline = body.find("\n", at)
    return body[at:] if newline < 0 else body[at : newline + 1]


def _newline(body: str) -> str:
    return "\r\n" if "\r\n" in body else "\n"
