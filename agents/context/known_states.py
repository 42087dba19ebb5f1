"""What the engine may have read of one context folder since the folder got its name, so that it is never fooled.

BuildKit's incremental copy compares size, mtime, mode, owner and link target with what it holds, and never content
(https://github.com/tonistiigi/fsutil, `sameFile`). A folder whose mode alone changed is copied, but keeps its old
checksum, so a COPY of it stays cached (https://github.com/moby/buildkit/issues/4817). BuildKit may hold several
copies of a folder, and use any of them. So every state that a folder had is remembered, as *facts*: one value per key.
A new state that has another value for a known key needs a folder of another name.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterator
from pathlib import Path

from agents.base import files
from agents.base.trees import remove
from agents.context.tree_objects import Below, File, Link
from agents.context.writer import Place, write

# Facts of paths that are long gone are dropped with the folder's name, once they outnumber those of the context.
_SPARE_FACTS = 20_000
_OUTGROWN = 4
_SECOND_NS = 1_000_000_000
# FAT stores times in steps of two seconds; no file system that this runs on has longer steps.
_COARSE_NS = 2 * _SECOND_NS
# ext4 with small inodes and XFS without bigtime clamp times outside of 32 bits of seconds.
_FAR_NS = (1 << 31) * _SECOND_NS


class Facts:
    """The facts of one state of a folder, 16 bytes each. `coarse`: its disk does not keep nanoseconds of times."""

    def __init__(self, *, coarse: bool) -> None:
        # The number of facts that are known already, and were not added.
        self.left_out = 0
        self._coarse = coarse
        self._numbers = array("Q")

    def add(self, place: Place, entry: File | Link | Below) -> None:
        """Add the facts of one entry of the folder at this place."""
        path = b"/".join((*place, entry.name))
        if isinstance(entry, Below):
            self._add((path,), (b"folder", b"%o" % entry.mode))
            return
        time = b"%d" % self._time(entry.mtime)
        if isinstance(entry, Link):
            self._add((path,), (b"link",))
            self._add((path, time), (entry.target,))
            return
        self._add((path,), (b"file", entry.hard_link))
        self._add((path, time, b"%d %o" % (entry.size, entry.mode)), (entry.digest.encode(),))

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield each fact as key and value."""
        numbers = iter(self._numbers)
        return zip(numbers, numbers)

    def _add(self, key: tuple[bytes, ...], value: tuple[bytes, ...]) -> None:
        self._numbers.append(_number(key))
        self._numbers.append(_number(value))

    def _time(self, mtime: int) -> int:
        if not -_FAR_NS <= mtime < _FAR_NS:
            return _FAR_NS
        return mtime // _COARSE_NS if self._coarse else mtime


class KnownStates:
    """The facts of every state that the folder had under its name, in the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[int, int] = {}
        numbers = array("Q")
        data = files.read(path)
        self._is_damaged = data is None and os.path.lexists(path)
        data = data or b""
        numbers.frombytes(data[: len(data) // 16 * 16])
        values = iter(numbers)
        self._known.update(zip(values, values))

    def admits(self, facts: Facts) -> bool:
        """Whether the engine can be shown a state with these facts under the same name."""
        if self._is_damaged:
            return False
        count = facts.left_out
        for key, value in facts.pairs():
            count += 1
            if self._known.get(key, value) != value:
                return False
        return len(self._known) <= _OUTGROWN * count + _SPARE_FACTS

    def extend(self, facts: Facts) -> None:
        """Remember these facts too. They must be on record before an engine may read the folder."""
        added = array("Q")
        for key, value in facts.pairs():
            if key not in self._known:
                self._known[key] = value
                added.extend((key, value))
        if added:
            _append(self._path, added.tobytes())

    def replace(self, facts: Facts) -> None:
        """Remember these facts only: the folder got another name."""
        self._known.clear()
        remove(self._path)
        self.extend(facts)


def _number(fields: tuple[bytes, ...]) -> int:
    # Every field but the last has no NUL: paths and link targets cannot have one, numbers do not.
    return int.from_bytes(hashlib.blake2b(b"\0".join(fields), digest_size=8).digest(), "little")


def _append(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        # A record that an earlier writer left in part would shift all that follow.
        os.ftruncate(fd, os.fstat(fd).st_size // 16 * 16)
        write(fd, data)
    finally:
        os.close(fd)
