"""Parse folder objects from the wire. The sender is not trusted: names are one path component, numbers in range."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from agents.base.errors import AgentError

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
# No file system stores times further than this from the epoch.
_MTIME_LIMIT_NS = 1 << 70
_SIZE_LIMIT = 1 << 63
_MAX_TARGET_BYTES = 4095


class File(NamedTuple):
    """A file. `name` is bytes, as in the sender's file system. `mtime` is in nanoseconds.

    Files with the same `hard_link`, a path below the context's root, are names of one file; empty for a single name.
    """

    name: bytes
    mode: int
    mtime: int
    size: int
    digest: str
    hard_link: bytes = b""


class Link(NamedTuple):
    """A symbolic link. Its target may point anywhere: only the Dockerfile uses it, the agent never follows it."""

    name: bytes
    mtime: int
    target: bytes


class Below(NamedTuple):
    """A subfolder, by the digest of its folder object."""

    name: bytes
    mode: int
    mtime: int
    digest: str


class Folder(NamedTuple):
    """The content of one folder object. `parts` are the digests of further objects of the same folder."""

    files: list[File]
    links: list[Link]
    below: list[Below]
    parts: list[str]


def parse(data: bytes) -> Folder:
    """Parse a folder object. Raises AgentError `bad_request`."""
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
    """Return `value` as a digest, 64 hex digits. Raises AgentError `bad_request` where it is not one."""
    if not isinstance(value, str) or not _DIGEST.match(value):
        raise AgentError("bad_request", f"refused in the context: {value!a} is not a digest")
    return value


def _add(folder: Folder, entry: list[Any]) -> None:
    kind, *values = entry
    if kind == "file":
        name, mode, mtime, size, content, *group = values
        hard_link = b"".join(_bytes(value) for value in group[:1])
        if len(group) > 1 or (group and not hard_link):
            raise unsafe(name, "has a malformed hard link")
        file = File(_name(name), _mode(mode), _mtime(mtime), number(size, 0, _SIZE_LIMIT), digest(content), hard_link)
        folder.files.append(file)
    elif kind == "folder":
        name, mode, mtime, content = values
        folder.below.append(Below(_name(name), _mode(mode), _mtime(mtime), digest(content)))
    elif kind == "link":
        name, mtime, target = values
        folder.links.append(Link(_name(name), _mtime(mtime), _target(name, target)))
    else:
        raise AgentError("bad_request", f"refused in the context: {kind!a} is not a file, a folder or a link")


def number(value: object, least: int, below: int) -> int:
    """Return `value` as an integer from `least` to `below` - 1. Raises AgentError `bad_request` where it is not one."""
    # In Python bool is a subclass of int: JSON's true must not pass as a number.
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < below:
        raise AgentError(
            "bad_request", f"refused in the context: {value!a} is not a number from {least} to {below - 1}"
        )
    return value


def _mode(value: object) -> int:
    return number(value, 0, 0o10000)


def _mtime(value: object) -> int:
    return number(value, -_MTIME_LIMIT_NS, _MTIME_LIMIT_NS)


def _name(value: object) -> bytes:
    name = _bytes(value)
    if name in {b"", b".", b".."} or b"/" in name:
        raise unsafe(value, "leads out of its folder")
    return name


def _target(name: object, value: object) -> bytes:
    target = _bytes(value)
    if not 0 < len(target) <= _MAX_TARGET_BYTES:
        raise unsafe(name, f"is a link with a target of {len(target)} bytes")
    return target


def _bytes(value: object) -> bytes:
    if not isinstance(value, str):
        raise unsafe(value, "is not a file name")
    try:
        name = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise unsafe(value, "is not a file name") from error
    if b"\0" in name:
        raise unsafe(value, "has a NUL in its name")
    return name


def unsafe(name: object, why: str) -> AgentError:
    return AgentError("bad_request", f"refused in the context: {name!a} {why}")
