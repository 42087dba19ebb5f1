"""Room on a disk, as its owner can use it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Room(NamedTuple):
    """Bytes and inodes free below a folder, for its owner."""

    folder: str
    bytes: int
    inodes: int


def least_room(folders: Sequence[str]) -> Room | None:
    """Of these folders the one with the least room; None where none can be looked at."""
    return min((room for room in map(room_below, folders) if room is not None), key=by_room, default=None)


def room_below(folder: str) -> Room | None:
    """What the folder's owner can still write: root may use the blocks that are reserved for it."""
    try:
        status, owner = os.statvfs(folder), Path(folder).stat().st_uid
    except PermissionError:
        # Below the root of an engine that keeps its parts apart by user: the parent is on the same file system.
        return room_below(os.path.dirname(folder)) if folder not in {"/", ""} else None  # noqa: PTH120
    except OSError:
        return None
    free = status.f_bavail if owner else status.f_bfree
    # File systems that make inodes as they need them say 0 of 0.
    inodes = status.f_ffree if status.f_files else 1
    return Room(folder, free * status.f_frsize, inodes)


def by_room(room: Room) -> tuple[int, int]:
    """Orders rooms: those without a free inode come first."""
    return min(room.inodes, 1), room.bytes
