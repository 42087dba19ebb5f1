"""Free space and inodes of a file system, as the owner of a folder on it can use them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_MIB = 1 << 20
_SHORT_BYTES = 64 * _MIB
# Fewer than any build needs; between two samples some come back.
FEW_INODES = 1024
_MOUNTS = Path("/proc/self/mountinfo")
_NO_WRITES = frozenset({"emergency_ro", "shutdown"})
# st_blocks counts these, whatever the block size: stat(2).
_BLOCK_BYTES = 512


class Room(NamedTuple):
    """Bytes and inodes that the owner of `folder` can still use, of `total` bytes."""

    folder: str
    bytes: int
    inodes: int
    total: int = 0


def least_room(folders: Sequence[str]) -> Room | None:
    """Return the room of the folder that has the least; None where no folder can be examined."""
    return min((room for room in map(room_below, folders) if room is not None), key=space_order, default=None)


def room_below(folder: str) -> Room | None:
    """Return what the folder's owner can still write; None where the folder cannot be examined.

    Root may also use the blocks that are reserved for it.
    """
    try:
        status, owner = os.statvfs(folder), Path(folder).stat().st_uid
    except PermissionError:
        # dockerd gives its data root mode 0710 (moby, setupDaemonRoot). With userns-remap the root that it reports is a
        # folder in there, which other users cannot stat. The parent is on the same file system unless one is mounted.
        return room_below(os.path.dirname(folder)) if folder not in {"/", ""} else None  # noqa: PTH120
    except OSError:
        return None
    free = status.f_bavail if owner else status.f_bfree
    # File systems that allocate inodes on demand, such as Btrfs, report 0 of 0.
    inodes = status.f_ffree if status.f_files else FEW_INODES
    return Room(folder, free * status.f_frsize, inodes, status.f_blocks * status.f_frsize)


def room_for(folder: str) -> Room | None:
    """Return the room for a folder that need not exist: that of the nearest one above it. None where it is unknown."""
    place = folder
    while True:
        try:
            os.lstat(place)
            break
        except (FileNotFoundError, NotADirectoryError):
            above = os.path.dirname(place)  # noqa: PTH120 - as in `room_below`
            if above == place:
                return None
            place = above
        except OSError:
            return None
    room = room_below(place)
    return room._replace(folder=folder) if room is not None else None


def is_read_only(folder: str) -> bool:
    """Return whether nothing can be written on the file system of this folder; false where that is unknown."""
    try:
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            return True
        device = Path(folder).stat().st_dev
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except PermissionError:  # as in `room_below`
        return folder not in {"/", ""} and is_read_only(os.path.dirname(folder))  # noqa: PTH120
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    # After an error ext4 of newer kernels (EXT4_FLAGS_EMERGENCY_RO) sets only one of these options, and not the flag.
    return any(
        fields[2] == number and not _NO_WRITES.isdisjoint(fields[-1].split(",")) for fields in map(str.split, mounts)
    )


def is_short(room: Room) -> bool:
    """Return whether a program that writes there may have failed for want of room.

    Free space hardly ever reaches 0: ext4 keeps 4096 clusters for itself (fs/ext4, `ext4_calculate_resv_clusters`), and
    what did not fit is not written.
    """
    return room.inodes < FEW_INODES or room.bytes < max(_SHORT_BYTES, room.total // 100)


def shortage_text(room: Room, needed: int = 0) -> str:
    """Return the message that there is too little room, and how much was needed where that is known, in bytes."""
    if room.inodes < FEW_INODES:
        return f"{room.inodes or 'no'} file names (inodes) left below {room.folder}"
    # Not "no space left": what was written in vain is gone by now, and a quota may be used up before the disk is.
    text = f"too little space below {room.folder}: {room.bytes // _MIB} MiB free"
    return f"{text}, {needed // _MIB} MiB needed" if needed else text


def bytes_on_disk(status: os.stat_result) -> int:
    """Return what a file takes of the disk: a sparse one takes what it holds."""
    return status.st_blocks * _BLOCK_BYTES


def space_order(room: Room) -> tuple[int, int]:
    """Return the sort key of a room: rooms with few inodes first, then by free bytes."""
    return min(room.inodes, FEW_INODES), room.bytes
