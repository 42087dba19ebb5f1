"""Parse YAML into plain data with line and column numbers.

Scalars become None, bool, int or the text as written: `1.10`, `007` and `22:00` stay text. Keys are always text.
Anchors and merge keys are supported; a duplicate key is a problem, and does not override the first.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from coordinator.config.problems import Problem, path_text, refusal
from coordinator.config.yaml_errors import sentence
from coordinator.errors import UsageError
from coordinator.regular_files import read_file

_CORE = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})\Z")
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Place:
    """A position: line and column, both from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Item:
    """A value and its position. `data` is the value as plain data; `parts` are its members by key or index."""

    place: Place
    data: object
    parts: dict[str | int, Part] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """A member: the position of its key, and its value."""

    key: Place
    item: Item


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed document. `root` is None for an empty one; `problems` are errors that the YAML parser accepts."""

    label: str
    root: Item | None
    problems: tuple[Problem, ...]

    def members(self, section: str) -> list[tuple[str | int, Part]]:
        """Return the keys of a section of the document and their values; empty without that section."""
        part = self.root.parts.get(section) if self.root else None
        return list(part.item.parts.items()) if part else []

    def problem(self, keys: Sequence[str | int], text: str, *, at_key: bool = False) -> Problem:
        """Return a problem at this path, or at its innermost part that exists in the document."""
        item, place, known = self.root, Place(1, 1), 0
        for key in keys:
            part = item.parts.get(key) if item else None
            if part is None:
                break
            item, place, known = part.item, part.item.place, known + 1
            if at_key and known == len(keys):
                place = part.key
        return Problem(place.line, place.column, path_text(keys[:known]), text)


def read(path: Path, label: str) -> Source:
    """Return the document in this file. Raises UsageError where it cannot be read or is not YAML."""
    return parse(_text(path, label), label)


def parse(text: str, label: str) -> Source:
    """Return the document in this text. Raises UsageError where it is not YAML."""
    yaml = YAML(typ="safe", pure=True)
    builder = _Builder(problems=[])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a reused anchor is legal: an alias refers to the last one
            node = yaml.compose(text)
        root = None if node is None else builder.item(node, ())
    except MarkedYAMLError as error:
        line, column, message = sentence(error, text)
        raise refusal(label, [Problem(line, column, "", message)]) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = f"U+{ord(text[error.position]):04X}"
        raise refusal(label, [Problem(line, 1, "", f"the control character {code} is not allowed in YAML")]) from error
    except RecursionError as error:
        raise refusal(label, [Problem(1, 1, "", "lists or maps are nested too deeply")]) from error
    return Source(label, root, tuple(builder.problems))


def _text(path: Path, label: str) -> str:
    try:
        raw = read_file(path)
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {label}", code="config") from error
    except IsADirectoryError as error:
        raise UsageError(f"{label} is a folder, not a file", code="config") from error
    except OSError as error:
        raise UsageError(f"cannot read {label}: {error.strerror}", code="config") from error
    if raw.startswith(_UTF16):
        raise refusal(label, [Problem(1, 1, "", "this is UTF-16: save the file as UTF-8")])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8: save the file as UTF-8"
        raise refusal(label, [Problem(line, 1, "", message)]) from error


@dataclass(slots=True)
class _Builder:
    """Converts the node graph to items. Aliases share one item, so that the result is no larger than the file."""

    problems: list[Problem]
    done: dict[int, Item] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)

    def item(self, node: Node, keys: tuple[str | int, ...]) -> Item:
        known = self.done.get(id(node))
        if known is not None:
            return known
        place = _place(node)
        if id(node) in self.open:
            self._add(place, keys, "an anchor cannot contain itself")
            return Item(place, None)
        if not str(node.tag).startswith(_CORE):
            self._add(place, keys, f"the tag {node.tag} is not supported: write the value itself")
        self.open.add(id(node))
        match node:
            case MappingNode():
                item = self._mapping(node, keys)
            case SequenceNode():
                items = [self.item(child, (*keys, index)) for index, child in enumerate(node.value)]
                parts: dict[str | int, Part] = {index: Part(item.place, item) for index, item in enumerate(items)}
                item = Item(place, [item.data for item in items], parts)
            case _:
                item = Item(place, _scalar(node))
        self.open.discard(id(node))
        self.done[id(node)] = item
        return item

    def _mapping(self, node: MappingNode, keys: tuple[str | int, ...]) -> Item:
        parts: dict[str | int, Part] = {}
        merged: list[Node] = []
        for key_node, value_node in node.value:
            place = _place(key_node)
            if not isinstance(key_node, ScalarNode):
                self._add(place, keys, "a key must be a word, not a list or a map")
                continue
            key = str(key_node.value)
            path = (*keys, key)
            if key_node.tag == f"{_CORE}merge":
                merged.append(value_node)
            elif key in parts:
                self._add(place, path, f"this key is given twice, first on line {parts[key].key.line}")
            else:
                item = self.item(value_node, path)
                # The parser places an empty value at the start of the next line: use its key's position instead.
                parts[key] = Part(place, Item(place, None) if item.data is None else item)
        for value_node in merged:
            self._merge(value_node, keys, parts)
        return Item(_place(node), {str(key): part.item.data for key, part in parts.items()}, parts)

    def _merge(self, node: Node, keys: tuple[str | int, ...], parts: dict[str | int, Part]) -> None:
        for item in node.value if isinstance(node, SequenceNode) else [node]:
            if isinstance(item, MappingNode):
                for key, part in self.item(item, (*keys, "<<")).parts.items():
                    parts.setdefault(key, part)
            else:
                self._add(_place(item), (*keys, "<<"), "only a map can be merged")

    def _add(self, place: Place, keys: tuple[str | int, ...], text: str) -> None:
        self.problems.append(Problem(place.line, place.column, path_text(keys), text))


def _place(node: Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


def _scalar(node: Node) -> object:
    text = str(node.value)
    match str(node.tag).removeprefix(_CORE):
        case "null":
            return None
        case "bool":
            return _BOOLEANS.get(text.lower(), text)
        case "int" if _INTEGER.match(text):
            return int(text)
        case _:
            return text
