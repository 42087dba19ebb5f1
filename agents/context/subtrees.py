"""What folder objects hold, on record: the objects of folders that have not changed need not be read again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from agents.context.tree_objects import Folder
from agents.context.unreadable import is_closed


class Summary(NamedTuple):
    """One folder object: its entries, the bytes of its files, the number of its facts, and the objects it refers to.

    `is_plain`: each of its files has one name, and no mode keeps the login user from opening an entry.
    """

    entries: int
    bytes: int
    facts: int
    is_plain: bool
    objects: list[str]


class Subtree(NamedTuple):
    """A folder with everything below it: the sums of its objects, and their digests, each as often as it occurs."""

    entries: int
    bytes: int
    facts: int
    objects: list[str]


def summary(folder: Folder) -> Summary:
    """Return what is put on record of this object."""
    return Summary(
        entries=len(folder.files) + len(folder.links) + len(folder.below),
        bytes=sum(file.size for file in folder.files),
        # As `Facts.add` has them.
        facts=2 * len(folder.files) + 2 * len(folder.links) + len(folder.below),
        is_plain=not any(file.hard_link or is_closed(file) for file in folder.files)
        and not any(map(is_closed, folder.below)),
        objects=[*folder.parts, *(below.digest for below in folder.below)],
    )


def subtree(recorded: Mapping[str, Summary], root: str, most: int) -> Subtree | None:
    """Return the subtree below this digest.

    None where one of its objects is not on record or not plain, or it has more than `most` entries: a few objects, each
    referenced many times, can expand to any number.
    """
    entries = size = facts = 0
    objects: list[str] = []
    pending = [root]
    while pending:
        digest = pending.pop()
        found = recorded.get(digest)
        if found is None or not found.is_plain or len(objects) > 2 * most + 1:
            return None
        entries, size, facts = entries + found.entries, size + found.bytes, facts + found.facts
        if entries > most:
            return None
        objects.append(digest)
        pending += found.objects
    return Subtree(entries, size, facts, objects)
