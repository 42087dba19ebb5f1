"""Removes context folders that no job has: those not used for long, and the least recently used where room is needed.

Only so is room made: a folder has hard links to the objects of its files, so evicting those frees nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from agents.base.disk import bytes_on_disk
from agents.base.json_file import read_object
from agents.base.locks import locked
from agents.base.trees import remove_tree
from agents.context.folders import LEASE, STAGING, TRASH, is_free, try_lock
from agents.job.context_places import DROPPED, LOCK, RECORDS, ROOT

# How the names of folders begin that are being removed.
_GONE = ".gone-"


def drop_unused(state_folder: Path, before: float) -> None:
    """Remove the folders that were last given to a job before this time, in epoch seconds."""
    _sweep(state_folder)
    for used, place in _oldest_first(state_folder):
        if used < before:
            _drop(state_folder, place)


def drop_oldest(state_folder: Path, wanted: int) -> bool:
    """Remove least recently used folders until they had `wanted` bytes in files. Return whether any was removed."""
    dropped = _sweep(state_folder)
    for _, place in _oldest_first(state_folder):
        if wanted <= 0:
            break
        size = sum(map(bytes_on_disk, _files(place)))
        if _drop(state_folder, place):
            dropped = True
            wanted -= size
    return dropped


def sweep(state_folder: Path) -> None:
    """Remove what processes that died have left: folders being removed, and what transfers had brought."""
    _sweep(state_folder)
    for place in _places(state_folder):
        left = [place / name for name in (STAGING, TRASH) if (place / name).exists()]
        lock = try_lock(place) if left else None
        if lock is not None:
            try:
                for path in left:
                    remove_tree(path)
            finally:
                os.close(lock)


def own_bytes(state_folder: Path) -> int:
    """Return the bytes of files that only one folder has, and the object store does not."""
    files = (status for place in _places(state_folder) for status in _files(place))
    return sum(bytes_on_disk(status) for status in files if status.st_nlink == 1)


def _oldest_first(state_folder: Path) -> list[tuple[float, Path]]:
    found: list[tuple[float, Path]] = []
    for place in _places(state_folder):
        # A folder without a lease was made just now, or its process died just then.
        with suppress(FileNotFoundError):
            found.append(((place / LEASE).stat().st_mtime, place))
    return sorted(found)


def _places(state_folder: Path) -> list[Path]:
    # What is being removed begins with a dot.
    return [path for path in (state_folder / ROOT).glob("[!.]*/*") if path.is_dir()]


def _drop(state_folder: Path, place: Path) -> bool:
    root = state_folder / ROOT
    gone = root / f"{_GONE}{os.urandom(8).hex()}"
    with locked(root, LOCK):
        if not is_free(place, state_folder / "jobs"):
            return False
        lock = try_lock(place)
        if lock is None:
            return False
        try:
            _keep_records(root, place)
            place.rename(gone)
        finally:
            os.close(lock)
        with suppress(OSError):  # another folder of this key is there
            place.parent.rmdir()
    # Without the lock, which every transfer and build of this user needs: to remove many files takes long.
    _remove(gone)
    return True


def _sweep(state_folder: Path) -> bool:
    """Remove what a process that died has left of folders. Return whether there was any."""
    left = list((state_folder / ROOT).glob(f"{_GONE}*"))
    for gone in left:
        _remove(gone)
    return bool(left)


def _remove(gone: Path) -> None:
    while gone.exists():
        with suppress(FileNotFoundError):  # another process sweeps it at the same time
            remove_tree(gone)


def _keep_records(root: Path, place: Path) -> None:
    """Leave the ids of the engine's records of the folder for the next build to remove."""
    with suppress(OSError), (root / DROPPED).open("a", encoding="ascii") as file:
        file.writelines(f"{number}\n" for number in read_object(place / RECORDS).get("ids", ()))


def _files(place: Path) -> Iterator[os.stat_result]:
    for parent, _, names in os.walk(os.fsencode(place)):
        for name in names:
            with suppress(OSError):  # a transfer may remove it meanwhile, and a path may be too long
                yield os.lstat(os.path.join(parent, name))  # noqa: PTH118 - bytes
