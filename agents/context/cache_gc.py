"""How much the store of objects may keep, and what goes first: what was used longest ago.

An object's change time is when a job last took it or let it go. Contexts have links of their own: what is thrown out
here is still in them, and only has to be sent again for the next job.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from array import array
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from agents.base import state
from agents.base.disk import room_below
from agents.base.errors import AgentError
from agents.base.locks import locked
from agents.context.cache import FOLDERS

_MOST = 5_000_000_000
_PART_OF_DISK = 0.1
_UNUSED = 14 * 86400.0
_UNDER_WAY = 3600.0
_COUNT_AGAIN = 86400.0
_BLOCK = 4096
_LEDGER = "ledger.json"
_MIB = 1 << 20


class Budget(NamedTuple):
    """`bytes` in all; `unused` is the age in seconds at which an object goes anyway, `under_way` the age until which
    a file that is still written stays.
    """

    bytes: int
    unused: float = _UNUSED
    under_way: float = _UNDER_WAY


class _Object(NamedTuple):
    path: str
    changed: int
    size: int
    links: int


def budget(root: Path) -> Budget:
    """5 GB or a tenth of the disk, whichever is less."""
    status = os.statvfs(root)
    return Budget(min(_MOST, int(status.f_blocks * status.f_frsize * _PART_OF_DISK)))


def make_room(root: Path, needed: int) -> None:
    """Throw out what was used longest ago until so many bytes fit. Raises AgentError `disk` where they cannot."""
    free = _free(root)
    if free < needed:
        # What is in a job's context too would leave no room.
        census = _Census(found for found in _objects(root) if found.links == 1)
        if census.bytes >= needed - free:
            _throw_out(root, census.oldest(needed - free), 0, unshared=True)
        free = _free(root)
    if free < needed:
        message = f"no space left below {root.parent} for {needed // _MIB} MiB of context: {free // _MIB} MiB free"
        raise AgentError("disk", message, free=free)


def trim(root: Path, added: int, limit: Budget) -> None:
    """Keep the store within its budget, after so many bytes were added. One at a time; others need not wait.

    It is counted when it may be beyond the budget, and once a day: looking at every object takes a small board long.
    """
    with (root / "trim.lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        now = time.time()
        known = _read_ledger(root)
        # A clock that was put back is a reason to count, too.
        if known is not None and known.bytes + added <= limit.bytes and 0 <= now - known.counted < _COUNT_AGAIN:
            _write_ledger(root, _Ledger(known.bytes + added, known.counted))
            return
        census = _Census(_objects(root))
        last = max(census.oldest(census.bytes - limit.bytes), int((now - limit.unused) * 1e9))
        left = census.bytes - _throw_out(root, last, int((now - limit.under_way) * 1e9))
        _remove_boots(root)
        _write_ledger(root, _Ledger(left, now))


class _Ledger(NamedTuple):
    """What the store held when it was counted and what came since, and when that was."""

    bytes: int
    counted: float


def _read_ledger(root: Path) -> _Ledger | None:
    try:
        return _Ledger(*json.loads((root / _LEDGER).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None  # never counted, or cut by a power loss


def _write_ledger(root: Path, ledger: _Ledger) -> None:
    (root / _LEDGER).write_text(json.dumps(ledger), encoding="ascii")


class _Census:
    """Ages and sizes, without the names: a store may have a hundred thousand objects."""

    def __init__(self, objects: Iterator[_Object]) -> None:
        self._changed, self._sizes = array("q"), array("q")
        for found in objects:
            self._changed.append(found.changed)
            self._sizes.append(found.size)
        self.bytes = sum(self._sizes)

    def oldest(self, excess: int) -> int:
        """The change time of the last object to go so that `excess` bytes become free; 0 where none has to."""
        last = 0
        for index in sorted(range(len(self._changed)), key=self._changed.__getitem__):
            if excess <= 0:
                break
            excess -= self._sizes[index]
            last = self._changed[index]
        return last


def _throw_out(root: Path, last: int, last_written: int, *, unshared: bool = False) -> int:
    """Removes what changed until then, by another time for what is still written; the bytes of it."""
    gone = 0
    for found in _objects(root):
        is_written = os.path.basename(found.path).startswith(".")  # noqa: PTH119 - a hundred thousand times
        if found.changed <= (last_written if is_written else last) and not (unshared and found.links > 1):
            with suppress(FileNotFoundError), locked(root):
                Path(found.path).unlink()
                gone += found.size
    return gone


def _remove_boots(root: Path) -> None:
    """Folders of earlier boots that have become empty; those of this boot may be about to get a file."""
    for boot in root.iterdir():
        if boot.is_dir() and boot.name not in {FOLDERS, state.boot_id()}:
            for folder in (*boot.iterdir(), boot):
                with suppress(OSError):  # not empty, or gone
                    folder.rmdir()


def _objects(root: Path) -> Iterator[_Object]:
    """Every file that is an object or became none, of every boot."""
    for folder in root.glob("*/*/"):
        with suppress(FileNotFoundError), os.scandir(folder) as listing:
            for item in listing:
                # Taken away meanwhile, by another transfer.
                with suppress(FileNotFoundError):
                    found = item.stat(follow_symlinks=False)
                    size = -(-found.st_size // _BLOCK) * _BLOCK
                    yield _Object(item.path, found.st_ctime_ns, size, found.st_nlink)


def _free(root: Path) -> int:
    room = room_below(str(root))
    return room.bytes if room is not None else 0
