"""Files of the agent's own. One that is not what it should be, such as a folder or a link, is as none, and is replaced.

A power cut, a worn SD card or a person may have made it so.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from agents.base.trees import remove

# Neither a link is followed, nor a pipe waited for.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read(path: Path) -> bytes | None:
    """Return the content of the file; None where there is none, or none that is regular and can be read."""
    try:
        with os.fdopen(os.open(path, _READ), "rb") as file:
            return file.read() if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
    except OSError:
        return None


def write_whole(path: Path, data: bytes) -> None:
    """Replace the file atomically: even after a power cut it has the old content or the new, never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        move(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def move(source: Path, target: Path) -> None:
    """Rename the file to its place, whatever lies there. Raises OSError."""
    try:
        source.replace(target)
    except IsADirectoryError:
        remove(target)
        source.replace(target)


def flush_folder(path: Path) -> None:
    """Flush the names in the folder, so that a power cut leaves them. Some file systems cannot."""
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def make_folder(path: Path) -> None:
    """Make the folder and those above it, mode 0700, where it does not exist. A file in its place is removed."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        remove(path)
        path.mkdir(mode=0o700, exist_ok=True)


def open_lock(path: Path) -> int:
    """Open a file to lock it, made where it does not exist. Raises OSError."""
    try:
        return _open_lock(path)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError:
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            raise
        remove(path)
        return _open_lock(path)


def _open_lock(path: Path) -> int:
    return os.open(path, _LOCK, 0o600)
