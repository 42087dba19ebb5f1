"""What an offered context changes in the folder that a host has of an earlier one, and how that is carried out.

Everything new is written beside the folder first, in a staging folder. So a transfer that breaks has changed nothing,
and what remains to do takes no more than a rename per entry.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Union

from agents.base.errors import AgentError
from agents.context.known_states import Facts
from agents.context.subtrees import Subtree, Summary
from agents.context.tree_objects import Below, File, Folder, Link, parse, unsafe
from agents.context.writer import Place, Tree, readable

Entry = Union[File, Link, Below]  # `|` cannot be evaluated before Python 3.10
# Returns a folder object by its digest; None where the store no longer has it.
Recall = Callable[[str], "bytes | None"]


class Earlier(NamedTuple):
    """What a context folder holds: the digest of its folder object, and a digest per group of hard links.

    `objects` are its folder objects, by digest; those of folders that an earlier agent wrote are missing.
    """

    tree: str
    groups: Mapping[str, str]
    objects: Mapping[str, Summary] = {}


class Staged(NamedTuple):
    """Files that must be written to the staging folder: alone, or as further hard links of the first of them."""

    members: list[tuple[Place, File]]


class _Member(NamedTuple):
    """One name of a file that has several, and what the folder had under this name."""

    place: Place
    file: File
    earlier: Entry | None


class Patch:
    """Collects, entry by entry of the offered context, what differs from `earlier`; without one, everything does.

    `folds`: the disk takes names that differ in case for one name.
    """

    def __init__(
        self, facts: Facts, earlier: Earlier | None = None, recall: Recall = lambda _: None, *, folds: bool = False
    ) -> None:
        self.facts = facts
        # The digest of the offered context, and a digest per group of hard links in it.
        self.tree = ""
        self.groups: dict[str, str] = {}
        # The folder objects of the offered context, by digest.
        self.objects: dict[str, Summary] = {}
        # Digests of contents that the folder keeps as they are, without those below folders that are left out.
        self.kept: set[bytes] = set()
        self._left_out: list[tuple[Place, str]] = []
        self._earlier = earlier
        self._recall = recall
        self._folds = folds
        self._names: dict[tuple[Place, str], bytes] = {}
        # What is left of the earlier entries of a folder that differs; None for a folder that is the same. A folder
        # that is new as a whole is missing here.
        self._before: dict[Place, dict[bytes, Entry] | None] = {}
        self._seen: dict[Place, set[bytes]] = {}
        self._folders: dict[Place, Below] = {}
        self._settled: set[Place] = set()
        self._new: list[tuple[Place, File]] = []
        self._links: list[tuple[Place, Link]] = []
        self._members: dict[bytes, list[_Member]] = {}
        self._removed: list[tuple[Place, Entry]] = []
        self._opened: set[Place] = set()
        self._retouched: list[tuple[Place, File]] = []
        self._moved: list[tuple[Place, bytes]] = []

    def begin(self, root: str) -> None:
        """Compare from this root on."""
        self.tree = root
        if self._earlier is not None:
            self._compare((), root, self._earlier.tree)

    def add(self, place: Place, entry: Entry) -> None:
        """Add one entry of the offered context; its folder before it. Raises AgentError `case`."""
        if self._folds:
            self._refuse_folded(place, entry.name)
        self.facts.add(place, entry)
        before = self._before.get(place)
        earlier: Entry | None = entry if place in self._before else None
        if before is not None:
            if entry.name in self._seen.setdefault(place, set()):
                raise unsafe(readable(entry.name), "occurs twice")
            self._seen[place].add(entry.name)
            earlier = before.pop(entry.name, None)
        if isinstance(entry, Below):
            self._add_folder(place, entry, earlier)
        elif isinstance(entry, File) and entry.hard_link:
            self._members.setdefault(entry.hard_link, []).append(_Member(place, entry, earlier))
        elif earlier == entry:
            if isinstance(entry, File):
                self.kept.add(bytes.fromhex(entry.digest))
        elif isinstance(entry, File) and _is_same_content(entry, earlier):
            self.kept.add(bytes.fromhex(entry.digest))
            self._retouched.append((place, entry))
        else:
            self._replace(place, entry.name, earlier)
            if isinstance(entry, Link):
                self._links.append((place, entry))
            else:
                self._new.append((place, entry))

    def is_unchanged(self, place: Place) -> bool:
        """Whether this folder, which was added, is as it was, with everything below it."""
        return place in self._before and self._before[place] is None

    @property
    def recorded(self) -> Mapping[str, Summary]:
        """What is on record of the folder objects of the earlier context."""
        return self._earlier.objects if self._earlier is not None else {}

    def leave_out(self, place: Place, root: str, below: Subtree) -> None:
        """Add nothing of an unchanged folder: what it holds, and its facts, are known."""
        self.objects.update((digest, self.recorded[digest]) for digest in below.objects)
        self.facts.left_out += below.facts
        self._left_out.append((place, root))

    def all_facts(self) -> Facts:
        """Return the facts of the whole context.

        Raises AgentError `no_context` where the store has lost an object or found it damaged: the next attempt asks for
        each of these.
        """
        lost = ""
        while self._left_out:
            place, digest = self._left_out.pop()
            data = self._recall(digest)
            if data is None:
                lost = digest
                continue
            folder = parse(data)
            self._left_out += [(place, part) for part in folder.parts]
            self._left_out += [((*place, below.name), below.digest) for below in folder.below]
            entries: list[Entry] = [*folder.below, *folder.links, *folder.files]
            for entry in entries:
                self.facts.add(place, entry)
        if lost:
            raise AgentError("no_context", f"the folder object {lost} is no longer in the store")
        self.facts.left_out = 0
        return self.facts

    @property
    def is_whole(self) -> bool:
        """Whether everything is staged, and nothing of an earlier context is kept."""
        return () not in self._before

    def stage(self, tree: Tree) -> list[Staged]:
        """Create the new folders and links in the staging folder. Return the files that are to be written there."""
        staged = [Staged([file]) for file in self._new]
        for name, members in self._members.items():
            self._add_group(name, members, staged)
        for place in {place for place, _ in self._moved}:
            tree.mirror(place)
        for place, below in self._folders.items():
            if place not in self._before:
                tree.add_folder(place[:-1], below)
        for place, link in self._links:
            tree.add_link(place, link)
        return staged

    def remove(self, target: Tree, trash: Path) -> None:
        """Move what is not offered any more to the folder `trash`. The target is then neither the one nor the other."""
        for place, before in self._before.items():
            if before:
                self._removed += [(place, entry) for entry in before.values()]
                before.clear()
        changed = {place for place, before in self._before.items() if before is not None}
        changed.update(place for place, _ in self._removed)
        self._opened |= self._upwards(changed)
        for place in sorted(self._opened, key=len):
            target.open_up(place)
        for place, entry in self._removed:
            if isinstance(entry, Below):
                # To move a folder into another one, its user must be allowed to write to it: rename(2), EACCES.
                target.open_up((*place, entry.name))
            os.rename(entry.name, trash / os.urandom(8).hex(), src_dir_fd=target.open(place))
        self._removed.clear()

    def apply(self, staging: Tree, target: Tree, trash: Path, retouch: Callable[[File, int], None]) -> None:
        """Make the target what was offered."""
        self.remove(target, trash)
        for place, name in self._moved:
            os.rename(name, name, src_dir_fd=staging.open(place), dst_dir_fd=target.open(place))
        for place, file in self._retouched:
            retouch(file, target.open(place))
        # An earlier mode may keep this user from opening a folder that gets another one.
        closed = self._upwards(place for place in self._settled if place in self._before) - self._opened
        for place in sorted(closed, key=len):
            target.open_up(place)
        for place in self._settled | self._opened | closed:
            target.settle_later(place, self._folders[place])
        target.finish()

    @staticmethod
    def _upwards(places: Iterable[Place]) -> set[Place]:
        """Return these folders and those above them, without the root."""
        return {place[:length] for place in places for length in range(1, len(place) + 1)}

    def _refuse_folded(self, place: Place, name: bytes) -> None:
        folded = unicodedata.normalize("NFD", readable(name)).casefold()
        other = self._names.setdefault((place, folded), name)
        if other != name:
            raise _one_name(place, other, name)

    def _add_folder(self, place: Place, entry: Below, earlier: Entry | None) -> None:
        below = (*place, entry.name)
        self._folders[below] = entry
        if earlier != entry or place not in self._before:
            self._settled.add(below)
        if isinstance(earlier, Below) and self._compare(below, entry.digest, earlier.digest):
            return
        self._replace(place, entry.name, earlier)

    def _add_group(self, name: bytes, members: list[_Member], staged: list[Staged]) -> None:
        file = members[0].file
        if any(member.file._replace(name=file.name) != file for member in members):
            raise unsafe(readable(name), "is one file under several names, which differ in content, mode or time")
        own = self.groups[readable(name)] = _fingerprint(members)
        known = self._earlier.groups.get(readable(name)) if self._earlier is not None else None
        if known == own and all(member.earlier is not None for member in members):
            self.kept.add(bytes.fromhex(file.digest))
            return
        for member in members:
            self._replace(member.place, member.file.name, member.earlier)
        staged.append(Staged([(member.place, member.file) for member in members]))

    def _compare(self, place: Place, digest: str, earlier: str) -> bool:
        """Begin to compare the folder at this place; False where what it held is no longer known."""
        entries = None if digest == earlier else self._entries(earlier)
        if digest != earlier and entries is None:
            return False
        self._before[place] = entries
        return True

    def _entries(self, digest: str) -> dict[bytes, Entry] | None:
        data = self._recall(digest)
        if data is None:
            return None
        folder: Folder = parse(data)
        entries: dict[bytes, Entry] = {file.name: file for file in folder.files}
        entries.update({link.name: link for link in folder.links})
        entries.update({below.name: below for below in folder.below})
        for part in folder.parts:
            others = self._entries(part)
            if others is None:
                return None
            entries.update(others)
        return entries

    def _replace(self, place: Place, name: bytes, earlier: Entry | None) -> None:
        # In a folder that is new as a whole, the entry is staged inside of it.
        if place in self._before:
            if earlier is not None:
                self._removed.append((place, earlier))
            self._moved.append((place, name))


def _is_same_content(file: File, earlier: Entry | None) -> bool:
    """Whether the folder has this content under this name, in a file of its own that a mode does not close."""
    return (
        isinstance(earlier, File)
        and not earlier.hard_link
        and earlier.digest == file.digest
        and earlier.mode & file.mode & 0o400 != 0
    )


def _fingerprint(members: list[_Member]) -> str:
    lines = sorted(repr((member.place, tuple(member.file))) for member in members)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _one_name(place: Place, former: bytes, latter: bytes) -> AgentError:
    first, second = (readable(b"/".join((*place, name))) for name in sorted((former, latter)))
    return AgentError(
        "case", f"the disk of this host ignores case, so {first!a} and {second!a} of the context are one file"
    )
