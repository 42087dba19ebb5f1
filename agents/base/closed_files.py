"""Reads a context that its owner's modes close to it, such as files of mode 0000 or folders of mode 0311.

The owner may change a mode: what is closed is opened for as long as it is read, and closed again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

_READ, _READ_AND_ENTER = 0o400, 0o500


def walk(root: Path) -> Iterator[tuple[bytes, bytes, os.stat_result]]:
    """Yield path, path relative to `root` and status of every entry below it: sorted, a folder before its entries.

    The status has the entry's own mode. Modes are as they were when the generator ends or is closed. Raises OSError.
    """
    top = os.fsencode(root)
    levels: list[tuple[Iterator[bytes], ExitStack]] = []
    try:
        levels.append(_listed(top))
        while levels:
            paths, opening = levels[-1]
            path = next(paths, None)
            if path is None:
                opening.close()
                levels.pop()
                continue
            status = os.lstat(path)
            yield path, path[len(top) + 1 :], status
            if stat.S_ISDIR(status.st_mode):
                levels.append(_listed(path))
    finally:
        for _, opening in reversed(levels):
            opening.close()


@contextmanager
def opened(path: bytes) -> Iterator[BinaryIO]:
    """Open the file for reading, whatever its mode is. Raises OSError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags)
    except PermissionError:
        with _mode(path, _READ):
            fd = os.open(path, flags)
    with os.fdopen(fd, "rb", buffering=0) as file:
        yield file


def _listed(folder: bytes) -> tuple[Iterator[bytes], ExitStack]:
    """Return the paths of a folder's entries; they can be reached until the stack is closed."""
    opening = ExitStack()
    try:
        if not os.access(folder, os.R_OK | os.X_OK, effective_ids=True):
            opening.enter_context(_mode(folder, _READ_AND_ENTER))
        names = os.listdir(folder)  # noqa: PTH208 - names that are not UTF-8
    except BaseException:
        opening.close()
        raise
    return iter([os.path.join(folder, name) for name in sorted(names)]), opening  # noqa: PTH118 - as above


@contextmanager
def _mode(path: bytes, wanted: int) -> Iterator[None]:
    """Add these bits to the mode of a file or folder during the block."""
    closed = Path(os.fsdecode(path))
    mode = stat.S_IMODE(closed.lstat().st_mode)
    closed.chmod(mode | wanted)
    try:
        yield
    finally:
        closed.chmod(mode)
