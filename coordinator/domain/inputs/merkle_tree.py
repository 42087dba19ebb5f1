"""A context as a Merkle tree of objects named by their digests, as in git.

A host that has an object has everything below it. A folder is one object; a folder with many entries is a tree of
parts, cut at positions that the hashes of entry names determine. So one changed entry changes about 64 entries' worth
of objects in its folder and no other part. `agents/README.md` documents the format.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from coordinator.domain.inputs.build_id import ContextEntry, EntryKind

# One name in `_MEAN_PART_ENTRIES` ends a part; a part has at most `_MAX_PART_ENTRIES` entries, whatever their names.
_MEAN_PART_ENTRIES = 64
_MAX_PART_ENTRIES = 256
# A folder with at most so many entries is not cut: every part costs an object, and perhaps a round trip.
_MAX_UNCUT_ENTRIES = 128
# Levels of parts that are cut by name. Above them (millions of entries) only `_MAX_PART_ENTRIES` cuts.
_NAME_CUT_LEVELS = 4

# An entry's name and its JSON value in an object, or the last name in a part and the part's digest.
_Item = tuple[bytes, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextObjects:
    """`root` is the digest of the context's top folder; `folders` are all folder objects by digest (64 hex digits)."""

    root: str
    folders: Mapping[str, bytes]


def context_objects(entries: Iterable[ContextEntry]) -> ContextObjects:
    """Return the folder objects of a context. The order of `entries` does not matter.

    Raises ValueError for an entry whose folder is not in `entries`.
    """
    entries_by_folder: dict[str, list[ContextEntry]] = {"": []}
    sorted_entries = sorted(entries, key=lambda entry: entry.path)
    for entry in sorted_entries:
        if entry.kind is EntryKind.DIRECTORY:
            entries_by_folder[entry.path] = []
    for entry in sorted_entries:
        folder = entry.path.rpartition("/")[0]
        if folder not in entries_by_folder:
            raise ValueError(f"{entry.path!r} is in no folder of the context")
        entries_by_folder[folder].append(entry)
    objects: dict[str, bytes] = {}
    digests: dict[str, str] = {}
    # A path sorts before the paths below it, so in reverse order a folder comes after everything in it.
    for folder in sorted(entries_by_folder, reverse=True):
        items = sorted((_name(entry.path), _described(entry, digests)) for entry in entries_by_folder[folder])
        digests[folder] = _folder(items, objects)
    return ContextObjects(root=digests[""], folders=objects)


def _name(path: str) -> bytes:
    return path.rpartition("/")[2].encode("utf-8", "surrogateescape")


def _described(entry: ContextEntry, digests: Mapping[str, str]) -> list[object]:
    name = entry.path.rpartition("/")[2]
    match entry.kind:
        case EntryKind.FILE:
            hard_link = [entry.hard_link] if entry.hard_link else []
            return ["file", name, entry.mode, entry.mtime_ns, entry.size, entry.digest, *hard_link]
        case EntryKind.DIRECTORY:
            return ["folder", name, entry.mode, entry.mtime_ns, digests[entry.path]]
        case EntryKind.SYMLINK:
            return ["link", name, entry.mtime_ns, entry.link]


def _folder(items: Sequence[_Item], objects: dict[str, bytes]) -> str:
    """Add the object of a folder and its parts to `objects`, and return the object's digest."""
    if len(items) <= _MAX_UNCUT_ENTRIES:
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
        if end - begin == _MAX_PART_ENTRIES or end == len(items) or _ends_part(name, level):
            yield items[begin:end]
            begin = end


def _ends_part(name: bytes, level: int) -> bool:
    # Each level uses another byte of the hash: a name that ends a part is no likelier to end the part above it.
    return level < _NAME_CUT_LEVELS and hashlib.sha256(name).digest()[level] % _MEAN_PART_ENTRIES == 0


def _add(content: Mapping[str, object], objects: dict[str, bytes]) -> str:
    # ASCII only: names that are not UTF-8 contain surrogates, which JSON can escape but UTF-8 cannot encode.
    data = json.dumps(content, separators=(",", ":"), ensure_ascii=True).encode("ascii")
    digest = hashlib.sha256(data).hexdigest()
    objects[digest] = data
    return digest
