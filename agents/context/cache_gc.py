"""Keeps what the host has of contexts within a budget: the least recently used goes first.

An object's change time (ctime) is when a job last took or released it. Objects that a context folder has links to are
not evicted: that would free nothing. Where they are too many, the folders go first (`agents/context/folder_gc.py`).
"""

from __future__ import annotations

import fcntl
import os
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from agents.base import files, state
from agents.base.disk import FEW_INODES, Room, bytes_on_disk, room_below, shortage_text
from agents.base.errors import AgentError
from agents.base.json_file import read_object, write_object
from agents.base.locks import locked
from agents.context.cache import FOLDERS, Objects
from agents.context.folder_gc import drop_oldest, drop_unused, own_bytes

_MAX_BYTES = 5_000_000_000
_MAX_DISK_FRACTION = 0.1
_UNUSED_S = 14 * 86400.0
_UNDER_WAY_S = 3600.0
_RECOUNT_S = 86400.0
_LEDGER = "ledger.json"


class Budget(NamedTuple):
    """What may be kept of contexts: `bytes` in total.

    A folder or an object goes anyway `unused` seconds after its last use; a file still being written, after `under_way`
    seconds.
    """

    bytes: int
    unused: float = _UNUSED_S
    under_way: float = _UNDER_WAY_S


class _Object(NamedTuple):
    path: str
    changed: int
    size: int
    links: int


@contextmanager
def opened(state_folder: Path) -> Iterator[Objects]:
    """Yield the object store for a transfer, and afterwards keep it within the budget."""
    objects = Objects(state_folder)
    try:
        yield objects
    finally:
        # A broken transfer has added objects too. A disk too full to write the ledger must not fail the transfer.
        with suppress(OSError):
            trim(objects.root, objects.added, budget(objects.root))
        objects.close()


def budget(root: Path) -> Budget:
    """Return the budget: 5 GB or a tenth of the disk, whichever is less."""
    status = os.statvfs(root)
    return Budget(min(_MAX_BYTES, int(status.f_blocks * status.f_frsize * _MAX_DISK_FRACTION)))


def make_room(root: Path, needed: int, give_way: Callable[[], None] = lambda: None) -> None:
    """Delete what is least recently used until `needed` bytes are free. Raises AgentError `disk` where too few are.

    Objects go first, then folders that no job has. `give_way` is called last, to delete what the caller needs least.
    """
    steps: tuple[Callable[[int], object], ...] = (
        lambda _: None,
        lambda missing: drop_oldest(root.parent, missing),
        lambda _: give_way(),
    )
    free = _free(root)
    for step in steps:
        if free >= needed:
            return
        step(needed - free)
        census = _Census(_objects(root))
        if census.loose >= needed - _free(root):
            _throw_out(root, census.oldest(needed - _free(root)), 0)
        free = _free(root)
    if free < needed:
        room = _room(root)._replace(folder=str(root.parent), bytes=free)
        raise AgentError("disk", shortage_text(room, needed), free=free)


def trim(root: Path, added: int, limit: Budget) -> None:
    """Keep the store and the context folders within the budget after `added` bytes were added.

    Returns at once where another trim is running. Objects are counted only where the budget may be exceeded, and once a
    day: examining each takes long on a small board.
    """
    with os.fdopen(files.open_lock(root / "trim.lock"), "rb", buffering=0) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        now = time.time()
        known = _read_ledger(root)
        # A clock that was set back is a reason to count, too.
        if known is not None and known.bytes + added <= limit.bytes and 0 <= now - known.counted < _RECOUNT_S:
            _write_ledger(root, _Ledger(known.bytes + added, known.counted))
            return
        drop_unused(root.parent, now - limit.unused)
        remaining = _evict(root, limit, now)
        if remaining > limit.bytes and drop_oldest(root.parent, remaining - limit.bytes):
            remaining = _evict(root, limit, now)
        _remove_boots(root)
        _write_ledger(root, _Ledger(remaining, now))


def _evict(root: Path, limit: Budget, now: float) -> int:
    census = _Census(_objects(root))
    total = census.bytes + own_bytes(root.parent)
    last = max(census.oldest(total - limit.bytes), int((now - limit.unused) * 1e9))
    return total - _throw_out(root, last, int((now - limit.under_way) * 1e9))


class _Ledger(NamedTuple):
    """Bytes in the store: the last count plus the bytes added since. `counted` is when, in epoch seconds."""

    bytes: int
    counted: float


def _read_ledger(root: Path) -> _Ledger | None:
    fields = read_object(root / _LEDGER)
    known, counted = fields.get("bytes"), fields.get("counted")
    if not isinstance(known, int) or not isinstance(counted, float):
        return None  # never counted, or damaged
    return _Ledger(known, counted)


def _write_ledger(root: Path, ledger: _Ledger) -> None:
    write_object(root / _LEDGER, ledger._asdict())


class _Census:
    """Change times and sizes of objects, without paths to save memory: a store may have a hundred thousand objects.

    `bytes` is the size of all, `loose` of those that no context folder has a link to.
    """

    def __init__(self, objects: Iterator[_Object]) -> None:
        self._changed, self._sizes = array("q"), array("q")
        self.bytes = 0
        for entry in objects:
            self.bytes += entry.size
            if entry.links == 1:
                self._changed.append(entry.changed)
                self._sizes.append(entry.size)
        self.loose = sum(self._sizes)

    def oldest(self, excess: int) -> int:
        """Return the change time (ns) of the newest loose object to evict to free `excess` bytes; 0 if none need go."""
        last = 0
        for index in sorted(range(len(self._changed)), key=self._changed.__getitem__):
            if excess <= 0:
                break
            excess -= self._sizes[index]
            last = self._changed[index]
        return last


def _throw_out(root: Path, last: int, last_written: int) -> int:
    """Evict loose objects last changed at `last` or before; files still being written, at `last_written` (both in ns).

    Returns the bytes evicted.
    """
    evicted = 0
    for entry in _objects(root):
        is_written = os.path.basename(entry.path).startswith(".")  # noqa: PTH119 - a Path for each of 100,000 is slow
        if entry.changed <= (last_written if is_written else last) and entry.links == 1:
            with suppress(FileNotFoundError), locked(root):
                Path(entry.path).unlink()
                evicted += entry.size
    return evicted


def _remove_boots(root: Path) -> None:
    """Remove empty folders of earlier boots. Those of this boot stay: a transfer may be about to add a file."""
    for boot in root.iterdir():
        if boot.is_dir() and boot.name not in {FOLDERS, state.boot_id()}:
            for folder in (*boot.iterdir(), boot):
                with suppress(OSError):  # not empty, or already removed
                    folder.rmdir()


def _objects(root: Path) -> Iterator[_Object]:
    """Yield every object and every temporary file, of every boot, with the size that it takes on the disk."""
    for folder in root.glob("*/*/"):
        with suppress(FileNotFoundError), os.scandir(folder) as listing:
            for item in listing:
                # Another transfer may remove it at the same time.
                with suppress(FileNotFoundError):
                    status = item.stat(follow_symlinks=False)
                    size = bytes_on_disk(status)
                    yield _Object(item.path, status.st_ctime_ns, size, status.st_nlink)


def _free(root: Path) -> int:
    return _room(root).bytes


def _room(root: Path) -> Room:
    return room_below(str(root)) or Room(str(root), 0, FEW_INODES)
