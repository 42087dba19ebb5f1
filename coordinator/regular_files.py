"""Files that the user names: read without waiting, as an open of a named pipe would, and without touching devices."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}  # fmt: skip


def kind_of(mode: int) -> str:
    """Return what an entry with this mode is that is no file."""
    return _KINDS.get(stat.S_IFMT(mode), "no file")


def read_file(path: Path) -> bytes:
    """Return the content of a regular file, or of a shell's pipe, as of `<(command)` or standard input.

    Raises OSError as `Path.read_bytes` does; for anything else, with what it is as its text.
    """
    check_file(path, os.stat(path))  # noqa: PTH116 - before it is opened: opening a device may act on it
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        check_file(path, os.fstat(descriptor))
        os.set_blocking(descriptor, True)
        return file.read()


def check_file(path: Path, status: os.stat_result) -> None:
    """Raise OSError where this is neither a regular file nor a shell's pipe."""
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode) and not (stat.S_ISFIFO(status.st_mode) and _has_no_name(path)):
        raise OSError(errno.EINVAL, f"it is {kind_of(status.st_mode)}, not a file", str(path))


def _has_no_name(path: Path) -> bool:
    """Return whether this is a pipe that a shell made, below /dev/fd; its reader gets an end when its writers end."""
    return os.path.basename(os.path.realpath(path)).startswith("pipe:[")  # noqa: PTH119 - it is no path
