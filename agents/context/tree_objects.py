"""Folder objects as they come over the wire. The sender is not trusted: a name is one name, a number is a number."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from agents.base.errors import AgentError

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
# No file system keeps times further away than that, in nanoseconds.
_FURTHEST = 1 << 70
_LARGEST = 1 << 63
_LONGEST_LINK = 4095


class File(NamedTuple):
    """`name` is bytes: whatever the sender's file system had. `mtime` is in nanoseconds."""

    name: bytes
    mode: int
    mtime: int
    size: int
    digest: str


class Link(NamedTuple):
    """Where it points is the Dockerfile's business; nothing here ever follows it."""

    name: bytes
    mtime: int
    target: bytes


class Below(NamedTuple):
    """A folder in a folder."""

    name: bytes
    mode: int
    mtime: int
    digest: str


class Folder(NamedTuple):
    """What one object says of a folder. `parts` are further objects of the same folder, by their digests."""

    files: list[File]
    links: list[Link]
    below: list[Below]
    parts: list[str]


def parse(data: bytes) -> Folder:
    """The folder in this object. Raises AgentError `bad_request`."""
    folder = Folder([], [], [], [])
    try:
        content = json.loads(data)
        if list(content) == ["parts"]:
            folder.parts.extend(digest(value) for value in content["parts"])
        else:
            for entry in content["entries"]:
                _add(folder, entry)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise AgentError("bad_request", f"a folder of the context cannot be read: {error!r}") from error
    return folder


def digest(value: object) -> str:
    """A digest, 64 hex digits. Raises AgentError `bad_request`."""
    if not isinstance(value, str) or not _DIGEST.match(value):
        raise AgentError("bad_request", f"refused in the context: {value!a} is no digest")
    return value


def _add(folder: Folder, entry: list[Any]) -> None:
    kind, *values = entry
    if kind == "file":
        name, mode, mtime, size, content = values
        folder.files.append(File(_name(name), _mode(mode), _mtime(mtime), number(size, 0, _LARGEST), digest(content)))
    elif kind == "folder":
        name, mode, mtime, content = values
        folder.below.append(Below(_name(name), _mode(mode), _mtime(mtime), digest(content)))
    elif kind == "link":
        name, mtime, target = values
        folder.links.append(Link(_name(name), _mtime(mtime), _target(name, target)))
    else:
        raise AgentError("bad_request", f"refused in the context: {kind!a} is not a file, a folder or a link")


def number(value: object, least: int, below: int) -> int:
    """An integer in this range. Raises AgentError `bad_request`."""
    # JSON's true is an int to Python.
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < below:
        raise AgentError("bad_request", f"refused in the context: {value!a} is no number from {least} to {below - 1}")
    return value


def _mode(value: object) -> int:
    return number(value, 0, 0o10000)


def _mtime(value: object) -> int:
    return number(value, -_FURTHEST, _FURTHEST)


def _name(value: object) -> bytes:
    name = _bytes(value)
    if name in {b"", b".", b".."} or b"/" in name:
        raise unsafe(value, "leads out of its folder")
    return name


def _target(name: object, value: object) -> bytes:
    target = _bytes(value)
    if not 0 < len(target) <= _LONGEST_LINK:
        raise unsafe(name, f"is a link to {len(target)} bytes")
    return target


def _bytes(value: object) -> bytes:
    if not isinstance(value, str):
        raise unsafe(value, "is no file name")
    try:
        name = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise unsafe(value, "is no file name") from error
    if b"\0" in name:
        raise unsafe(value, "has a NUL in its name")
    return name


def unsafe(name: object, why: str) -> AgentError:
    return AgentError("bad_request", f"refused in the context: {name!a} {why}")
