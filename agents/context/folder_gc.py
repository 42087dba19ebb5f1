"""Removes context folders that no job has: those not used for long, and the least recently used where room is needed.

Only so is room made: a folder has hard links to the objects of its files, so evicting those frees nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from agents.base.locks import locked
from agents.context.folders import LEASE, is_free, try_lock
from agents.job.context_places import DROPPED, LOCK, RECORDS, ROOT
from agents.job.store import remove_tree

# st_blocks counts these, whatever the block size: stat(2).
_BLOCK_BYTES = 512


def drop_unused(state_folder: Path, before: float) -> None:
    """Remove the folders that were last given to a job before this time, in epoch seconds."""
    for used, place in _oldest_first(state_folder):
        if used < before:
            _drop(state_folder, place)


def drop_oldest(state_folder: Path, wanted: int) -> bool:
    """Remove least recently used folders until they had `wanted` bytes in files. Return whether any was removed."""
    dropped = False
    for _, place in _oldest_first(state_folder):
        if wanted <= 0:
            break
        size = sum(status.st_blocks * _BLOCK_BYTES for status in _files(place))
        if _drop(state_folder, place):
            dropped = True
            wanted -= size
    return dropped


def own_bytes(state_folder: Path) -> int:
    """Return the bytes of files that only one folder has, and the object store does not."""
    files = (status for place in _places(state_folder) for status in _files(place))
    return sum(status.st_blocks * _BLOCK_BYTES for status in files if status.st_nlink == 1)


def _oldest_first(state_folder: Path) -> list[tuple[float, Path]]:
    found: list[tuple[float, Path]] = []
    for place in _places(state_folder):
        # A folder without a lease was made just now, or its process died just then.
        with suppress(FileNotFoundError):
            found.append(((place / LEASE).stat().st_mtime, place))
    return sorted(found)


def _places(state_folder: Path) -> list[Path]:
    return [path for path in (state_folder / ROOT).glob("*/*") if path.is_dir()]


def _drop(state_folder: Path, place: Path) -> bool:
    with locked(state_folder / ROOT, LOCK):
        if not is_free(place, state_folder / "jobs"):
            return False
        lock = try_lock(place)
        if lock is None:
            return False
        try:
            _keep_records(state_folder / ROOT, place)
            remove_tree(place)
        finally:
            os.close(lock)
        with suppress(OSError):  # another folder of this key is there
            place.parent.rmdir()
        return True


def _keep_records(root: Path, place: Path) -> None:
    """Leave the ids of the engine's records of the folder for the next build to remove."""
    with suppress(OSError, ValueError, KeyError), (root / DROPPED).open("a", encoding="ascii") as file:
        file.writelines(f"{number}\n" for number in json.loads((place / RECORDS).read_bytes())["ids"])


def _files(place: Path) -> Iterator[os.stat_result]:
    for parent, _, names in os.walk(os.fsencode(place)):
        for name in names:
            with suppress(OSError):  # a transfer may remove it meanwhile, and a path may be too long
                yield os.lstat(os.path.join(parent, name))  # noqa: PTH118 - bytes
