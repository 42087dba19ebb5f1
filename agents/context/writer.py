"""Write a context: folders, files and links below one folder, and nowhere else."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agents.context.tree_objects import Below, File, Link, unsafe

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_UNFIT = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ})
# Names on the path from the context's root to a folder; empty for the root.
Place = tuple[bytes, ...]


class Tree:
    """Creates every entry anew. An entry that exists, or a path through something that is not a folder, is refused."""

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, _DIRECTORY)
        # Entries come folder by folder, so the last opened folder is kept open.
        self._last: tuple[Place, int] = ((), os.dup(self._root))
        self._folders: list[tuple[Place, int, int]] = []

    def close(self) -> None:
        os.close(self._last[1])
        os.close(self._root)

    def finish(self) -> None:
        """Set modes and mtimes of folders. Must come last: creating entries needs write access and changes mtimes."""
        for place, mode, mtime in sorted(self._folders, key=lambda folder: len(folder[0]), reverse=True):
            fd = self._walk(place)
            try:
                os.fchmod(fd, mode)
                os.utime(fd, ns=(mtime, mtime))
            finally:
                os.close(fd)

    def open(self, place: Place) -> int:
        """Return the descriptor of a folder of the context. The tree owns it; the next call may close it."""
        known, fd = self._last
        if known != place:
            opened = self._walk(place)
            self._last = (place, opened)
            os.close(fd)
        return self._last[1]

    def add_folder(self, place: Place, folder: Below) -> Place:
        """Create a folder and return its place."""
        with naming(folder.name):
            os.mkdir(folder.name, 0o700, dir_fd=self.open(place))
        below = (*place, folder.name)
        self._folders.append((below, folder.mode, folder.mtime))
        return below

    def add_link(self, place: Place, link: Link) -> None:
        parent = self.open(place)
        with naming(link.name):
            os.symlink(link.target, link.name, dir_fd=parent)
        os.utime(link.name, ns=(link.mtime, link.mtime), dir_fd=parent, follow_symlinks=False)

    def _walk(self, place: Place) -> int:
        fd = os.dup(self._root)
        for name in place:
            try:
                below = os.open(name, _DIRECTORY, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        return fd


@contextmanager
def naming(name: bytes) -> Iterator[None]:
    """Wrap a call that creates an entry `name`.

    Raises AgentError `bad_request` where the name is taken or the disk cannot have it.
    """
    try:
        yield
    except FileExistsError as error:
        raise unsafe(readable(name), "occurs twice") from error
    except OSError as error:
        if error.errno not in _UNFIT:
            raise
        raise unsafe(readable(name), f"cannot be written to this disk: {error.strerror}") from error


def new_file(parent: int, name: bytes) -> int:
    """Create a file in the folder with descriptor `parent`. Return its read-write descriptor; the caller closes it."""
    with naming(name):
        return os.open(name, _NEW_FILE, 0o600, dir_fd=parent)


def settle(fd: int, file: File) -> None:
    """Set the file's mode and mtime, after the last byte was written."""
    os.fchmod(fd, file.mode)
    os.utime(fd, ns=(file.mtime, file.mtime))


def readable(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
