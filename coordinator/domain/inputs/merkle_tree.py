"""A context as objects named by their digests, like git's: whoever has an object has all that is below it.

A folder is one object; where it holds many entries it is a tree of parts, cut at places that the entries' own names
choose, so that one changed entry changes about 64 entries' worth of objects in its folder and nothing else there.
`agents/README.md` shows their form.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from coordinator.domain.inputs.build_id import ContextEntry, EntryKind

# A cut after one name in so many; a part has no more entries than `_MOST`, whatever they are called.
_EACH = 64
_MOST = 256
# A folder of no more entries is not cut: every part costs an object, and perhaps a round trip.
_WHOLE = 128
# Levels of parts whose cuts names choose; above them, millions of entries up, `_MOST` alone does.
_CHOSEN_LEVELS = 4

# An entry's name and what stands for it in an object; or a part's last name and the part's digest.
_Item = tuple[bytes, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextObjects:
    """`root` is the digest of the context's own folder; `folders` are all folder objects by digest (64 hex digits)."""

    root: str
    folders: Mapping[str, bytes]


def context_objects(entries: Iterable[ContextEntry]) -> ContextObjects:
    """The folder objects of a context. The order of `entries` does not matter: the same entries, the same objects.

    Raises ValueError for an entry whose folder is not among them.
    """
    inside: dict[str, list[ContextEntry]] = {"": []}
    found = sorted(entries, key=lambda entry: entry.path)
    for entry in found:
        if entry.kind is EntryKind.DIRECTORY:
            inside[entry.path] = []
    for entry in found:
        folder = entry.path.rpartition("/")[0]
        if folder not in inside:
            raise ValueError(f"{entry.path!r} is in no folder of the context")
        inside[folder].append(entry)
    objects: dict[str, bytes] = {}
    digests: dict[str, str] = {}
    # A path sorts before what is below it: from the end, a folder comes after everything in it.
    for folder in sorted(inside, reverse=True):
        items = sorted((_name(entry.path), _described(entry, digests)) for entry in inside[folder])
        digests[folder] = _folder(items, objects)
    return ContextObjects(root=digests[""], folders=objects)


def _name(path: str) -> bytes:
    return path.rpartition("/")[2].encode("utf-8", "surrogateescape")


def _described(entry: ContextEntry, digests: Mapping[str, str]) -> list[object]:
    name = entry.path.rpartition("/")[2]
    match entry.kind:
        case EntryKind.FILE:
            return ["file", name, entry.mode, entry.mtime_ns, entry.size, entry.digest]
        case EntryKind.DIRECTORY:
            return ["folder", name, entry.mode, entry.mtime_ns, digests[entry.path]]
        case EntryKind.SYMLINK:
            return ["link", name, entry.mtime_ns, entry.link]


def _folder(items: Sequence[_Item], objects: dict[str, bytes]) -> str:
    """The digest of the object that stands for the folder; it and its parts are added to `objects`."""
    if len(items) <= _WHOLE:
        return _add({"entries": [value for _, value in items]}, objects)
    kind, level = "entries", 0
    while True:
        parts = [(part[-1][0], [value for _, value in part]) for part in _cut(items, level)]
        if len(parts) == 1:
            return _add({kind: parts[0][1]}, objects)
        items = [(last, _add({kind: values}, objects)) for last, values in parts]
        kind, level = "parts", level + 1


def _cut(items: Sequence[_Item], level: int) -> Iterator[Sequence[_Item]]:
    begin = 0
    for end, (name, _) in enumerate(items, 1):
        if end - begin == _MOST or end == len(items) or _ends_part(name, level):
            yield items[begin:end]
            begin = end


def _ends_part(name: bytes, level: int) -> bool:
    # Each level by another byte of the hash, so that what ends a part is no likelier to end the part above.
    return level < _CHOSEN_LEVELS and hashlib.sha256(name).digest()[level] % _EACH == 0


def _add(content: Mapping[str, object], objects: dict[str, bytes]) -> str:
    # ASCII alone, so that names which are not UTF-8 (surrogates here) have a spelling too.
    data = json.dumps(content, separators=(",", ":"), ensure_ascii=True).encode("ascii")
    digest = hashlib.sha256(data).hexdigest()
    objects[digest] = data
    return digest
