"""Transfer one context from the coordinator: read its folders, request only the objects the host lacks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from agents.base.errors import AgentError
from agents.base.fields import field
from agents.context import unreadable
from agents.context.cache import Objects
from agents.context.cache_gc import make_room
from agents.context.known_states import Facts
from agents.context.object_stream import Bodies
from agents.context.patch import Patch
from agents.context.subtrees import subtree, summary
from agents.context.tree_objects import Below, File, Folder, digest, number, parse, unsafe
from agents.context.writer import SPARSE_BYTES, Place, Tree, new_file, pour, readable, settle, write_sparse

# A request is split into lines of 500 digests, because a line has at most 64 KiB.
_DIGESTS_PER_LINE = 500
_MAX_FOLDER_BYTES = 16 << 20
_ENTRIES_LIMIT = 1 << 63
# The object of a folder without entries, as the coordinator writes it.
EMPTY = hashlib.sha256(b'{"entries":[]}').hexdigest()

Say = Callable[[dict[str, object]], None]
# Paths and modes of the entries that modes close to their owner.
Admit = Callable[[list[tuple[bytes, int]]], None]


class Received(NamedTuple):
    """A context that arrived: its entries, the bytes of all its files, and the files and bytes that were sent."""

    entries: int
    bytes: int
    files: int
    received: int


def transfer(
    stream: BinaryIO,
    say: Say,
    objects: Objects,
    root: Path,
    admit: Admit = lambda _: None,
    patch: Patch | None = None,
    give_way: Callable[[], None] = lambda: None,
) -> Received:
    """Create what the host lacks of the offered context below `root`, an existing empty folder.

    Without `patch`, that is all of it, with modes and mtimes. Otherwise it is what `patch` finds to be new; the caller
    applies it, unless that is all. `admit` gets the closed entries before the first file is requested, and raises what
    refuses them; `give_way` is called where the disk is too small. Raises AgentError `cut` where the stream ends early,
    `case` or `disk` before the first file is requested, `changed` where an object does not match its digest, and
    `bad_request` where the offer is malformed, a name leads outside the context, a path is too long, or the disk
    cannot hold an entry. OSError where the disk fills up later.
    """
    patch = patch or Patch(Facts(coarse=False))
    tree = Tree(root)
    try:
        received = _Transfer(Bodies(stream), say, objects, tree, admit, patch, give_way).run()
        if patch.is_whole:
            tree.finish()
    finally:
        tree.close()
    return received


class _Transfer:
    def __init__(
        self,
        bodies: Bodies,
        say: Say,
        objects: Objects,
        tree: Tree,
        admit: Admit,
        patch: Patch,
        give_way: Callable[[], None],
    ) -> None:
        self._bodies = bodies
        self._say = say
        self._objects = objects
        self._tree = tree
        self._admit = admit
        self._patch = patch
        self._give_way = give_way
        self._announced = self._entries = self._bytes = self._received = 0
        # Digest to every place and file that needs it, where the host lacks it; digests that the context already has.
        self._lacking: dict[str, list[tuple[Place, File]]] = {}
        self._made: set[bytes] = set()
        self._closed: list[tuple[Place, File | Below]] = []
        # Folder objects that were left out, and whether the contents of files in one of them cannot be known.
        self._unread: list[str] = []
        self._is_blind = False

    def run(self) -> Received:
        opening = self._bodies.opening()
        self._announced = number(field(opening, "entries", int), 0, _ENTRIES_LIMIT)
        root = digest(opening.get("root"))
        self._patch.begin(root)
        # The folder of a context without entries needs no question.
        if (self._announced or root != EMPTY) and not self._leaves_out(root, ()):
            self._walk(root)
        if self._entries != self._announced:
            raise AgentError("bad_request", f"the context has {self._entries} entries, not {self._announced}")
        self._admit([(b"/".join((*place, entry.name)), entry.mode) for place, entry in self._closed])
        staged = self._patch.stage(self._tree)
        self._made = self._patch.kept
        for files in staged:
            self._take(*files.members[0])
        if self._lacking:
            needed = sum(file.size for places in self._lacking.values() for _, file in places)
            make_room(self._objects.root, needed, self._give_way)
            self._ask("files", self._lacking)
            for content, places in self._lacking.items():
                self._receive(content, places)
        for files in staged:
            self._tree.join(files.members)
        return Received(self._entries, self._bytes, len(self._lacking), self._received)

    def _walk(self, root: str) -> None:
        """Read every folder. The folders lacking at one level are one request."""
        level: list[tuple[str, Place]] = [(root, ())]
        while level:
            lacking: dict[str, list[Place]] = {}
            while level:
                folder_digest, place = level.pop()
                data = self._objects.folder(folder_digest)
                if data is None:
                    lacking.setdefault(folder_digest, []).append(place)
                else:
                    level.extend(self._add(folder_digest, parse(data), place))
            if lacking:
                self._ask("folders", lacking)
            for folder_digest, places in lacking.items():
                folder = self._receive_folder(folder_digest)
                for place in places:
                    level.extend(self._add(folder_digest, folder, place))

    def _leaves_out(self, root: str, place: Place) -> bool:
        """Leave out an unchanged folder, with all below it, if what it holds is on record; return whether it was."""
        if not self._patch.is_unchanged(place):
            return False
        below = subtree(self._patch.recorded, root, self._announced - self._entries)
        # The store must have its objects: a later transfer compares with them. An object that is gone is asked for.
        if below is None or not all(map(self._objects.use_folder, below.objects)):
            return False
        self._patch.leave_out(place, root, below)
        self._unread += below.objects
        self._entries += below.entries
        self._bytes += below.bytes
        return True

    def _add(self, folder_digest: str, folder: Folder, place: Place) -> Iterator[tuple[str, Place]]:
        self._patch.objects[folder_digest] = summary(folder)
        self._entries += len(folder.files) + len(folder.links) + len(folder.below)
        if self._entries > self._announced:
            # A few folder objects, each referenced many times, can expand to any number of folders.
            raise AgentError("bad_request", f"the context has more than the {self._announced} announced entries")
        self._refuse_long(place, folder)
        self._closed += [(place, below) for below in folder.below if unreadable.is_closed(below)]
        self._closed += [(place, file) for file in folder.files if unreadable.is_closed(file)]
        for part in folder.parts:
            yield part, place
        for below in folder.below:
            self._patch.add(place, below)
            if not self._leaves_out(below.digest, (*place, below.name)):
                yield below.digest, (*place, below.name)
        for link in folder.links:
            self._patch.add(place, link)
        for file in folder.files:
            self._bytes += file.size
            self._patch.add(place, file)

    def _refuse_long(self, place: Place, folder: Folder) -> None:
        """Raise AgentError `bad_request` where a path is too long for the tree to be read and removed by path."""
        room = self._tree.path_bytes - sum(len(name) + 1 for name in place)
        for entries in (folder.files, folder.links, folder.below):
            for entry in entries:
                if len(entry.name) > room:
                    raise unsafe(readable(entry.name), f"has a path of more than {self._tree.path_bytes} bytes")

    def _take(self, place: Place, file: File) -> None:
        known = self._lacking.get(file.digest)
        if known is not None:
            if known[0][1].size != file.size:
                raise unsafe(readable(file.name), "has the same content as a file of another size")
            known.append((place, file))
            return
        content = bytes.fromhex(file.digest)
        if self._objects.take(file, self._tree.open(place), lambda: self._is_made(content)):
            self._made.add(content)
        else:
            self._lacking[file.digest] = [(place, file)]

    def _is_made(self, content: bytes) -> bool:
        """Whether the context already has this content under another name, as far as that can be known."""
        while self._unread:
            data = self._objects.folder(self._unread.pop())
            if data is None:
                self._is_blind = True
            else:
                self._made.update(bytes.fromhex(file.digest) for file in parse(data).files)
        return self._is_blind or content in self._made

    def _ask(self, kind: str, wanted: Iterable[str]) -> None:
        digests = list(wanted)
        for begin in range(0, len(digests), _DIGESTS_PER_LINE):
            end = begin + _DIGESTS_PER_LINE
            self._say({"want": kind, "digests": digests[begin:end], "more": end < len(digests)})

    def _receive_folder(self, wanted: str) -> Folder:
        data = b"".join(self._bodies.body(_MAX_FOLDER_BYTES))
        if hashlib.sha256(data).hexdigest() != wanted:
            raise AgentError("changed", f"a folder object does not have the digest {wanted}")
        folder = parse(data)
        self._objects.keep_folder(wanted, data)
        return folder

    def _receive(self, content: str, places: list[tuple[Place, File]]) -> None:
        (place, file), *others = places
        parent = self._tree.open(place)
        fd = new_file(parent, file.name)
        try:
            hasher, size = hashlib.sha256(), 0
            for piece in self._bodies.body(file.size):
                hasher.update(piece)
                size += len(piece)
                for begin in range(0, len(piece), SPARSE_BYTES):
                    write_sparse(fd, piece[begin : begin + SPARSE_BYTES])
            if size != file.size or hasher.hexdigest() != content:
                name = b"/".join((*place, file.name))
                raise AgentError("changed", f"{readable(name)!a} differs from the offer: it changed in the meantime")
            settle(fd, file)
            self._received += size
            self._objects.keep(file, parent)
            for other, twin in others:
                self._copy(fd, other, twin)
        finally:
            os.close(fd)

    def _copy(self, fd: int, place: Place, file: File) -> None:
        copy = new_file(self._tree.open(place), file.name)
        try:
            pour(fd, copy)
            settle(copy, file)
        finally:
            os.close(copy)
