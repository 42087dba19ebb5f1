"""The sizes of the run folders. That of an ended run no longer changes: it is measured once, and kept in a file.

What is added to a folder or deleted from it changes the folder's own time, so that it is measured again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from coordinator.state.logs import runs_folder

# A line of the file has the run, its size and its time. Lines of deleted folders go when there are more than of others.
_FILE = "run-sizes"
_SPARE_LINES = 100
# The driver's record of a run's end is written after the end is in the store.
_QUIET_S = 60.0


class FolderSize(NamedTuple):
    """The size of a run's folder in bytes, and when it was last written to, in epoch seconds."""

    run: str
    size: int
    at: float


def folder_sizes(state: Path, has_ended: Callable[[str], bool], now: float) -> list[FolderSize]:
    """Return the size of each run's folder, measured anew where the run had not long ended at the last call."""
    path = state / _FILE
    stored, lines = _read(path)
    entries = _folders(state)
    kept = {entry.name: stored[entry.name] for entry in entries if _is_unchanged(entry, stored.get(entry.name))}
    # Before they are measured: what a run writes until it ends must be in its size.
    ended = {entry.name for entry in entries if entry.name not in kept and has_ended(entry.name)}
    found = [kept.get(entry.name) or measure(entry) for entry in entries]
    new = [folder for folder in found if folder.run in ended and now - folder.at > _QUIET_S]
    with contextlib.suppress(OSError):
        if lines + len(new) > 2 * len(found) + _SPARE_LINES:
            _write(path.with_name(f".{_FILE}.{os.getpid()}"), [*kept.values(), *new]).replace(path)
        elif new:
            _write(path, new)
    return found


def all_measured(state: Path) -> Iterator[FolderSize]:
    """Yield the size of each run's folder as it is now."""
    return map(measure, _folders(state))


def measure(folder: os.PathLike[str]) -> FolderSize:
    """Return the size of this folder as it is now."""
    size, at = 0, 0.0
    try:
        status = os.lstat(folder)
        size, at = status.st_size, status.st_mtime
        with os.scandir(folder) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                size, at = size + status.st_size, max(at, status.st_mtime)
    except OSError:
        pass  # another process deletes the folder at this moment
    return FolderSize(os.path.basename(folder), size, at)  # noqa: PTH119 - a Path costs more than all the rest


def _is_unchanged(entry: os.DirEntry[str], stored: FolderSize | None) -> bool:
    try:
        return stored is not None and entry.stat(follow_symlinks=False).st_mtime <= stored.at
    except OSError:
        return False


def _folders(state: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(runs_folder(state)) as entries:
            return [entry for entry in entries if entry.is_dir()]
    except OSError:
        return []


def _read(path: Path) -> tuple[dict[str, FolderSize], int]:
    """Return the sizes by run, and the number of lines. Nothing of a damaged file."""
    try:
        lines = path.read_text("utf-8").splitlines()
        words = (line.split(" ") for line in lines)
        return {run: FolderSize(run, int(size), float(at)) for run, size, at in words}, len(lines)
    except (OSError, ValueError):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return {}, 0


def _write(path: Path, folders: Iterable[FolderSize]) -> Path:
    """Append these sizes to the file."""
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(f"{folder.run} {folder.size} {folder.at}\n" for folder in folders))
    return path
