"""Write a context: folders, files and links below one folder, and nowhere else."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from agents.context.tree_objects import Below, File, Link, unsafe

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_UNFIT = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ})
# How much is compared with zeros at a time.
SPARSE_BYTES = 262144
_ZEROS = bytes(SPARSE_BYTES)
# Linux takes paths of up to 4095 bytes (PATH_MAX). A tree is renamed before it is removed, to a name of up to 255.
_PATH_BYTES = 4095 - 256
# Names on the path from the context's root to a folder; empty for the root.
Place = tuple[bytes, ...]


class Tree:
    """One tree of folders. An entry that exists is refused, and a path through something that is not a folder."""

    def __init__(self, root: Path) -> None:
        # The longest path below the root that the programs which read and remove the tree can use.
        self.path_bytes = _PATH_BYTES - len(os.fsencode(root)) - 1
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

    def mirror(self, place: Place) -> None:
        """Create the folder at this place, and those on the way to it, where they are missing, with any mode."""
        for length in range(len(place)):
            with suppress(FileExistsError):
                os.mkdir(place[length], 0o700, dir_fd=self.open(place[:length]))

    def open_up(self, place: Place) -> None:
        """Allow this user to change a folder that exists; `settle_later` sets its mode again."""
        os.chmod(place[-1], 0o700, dir_fd=self.open(place[:-1]))

    def settle_later(self, place: Place, folder: Below) -> None:
        """Let `finish` set mode and mtime of a folder that exists."""
        self._folders.append((place, folder.mode, folder.mtime))

    def add_link(self, place: Place, link: Link) -> None:
        parent = self.open(place)
        with naming(link.name):
            os.symlink(link.target, link.name, dir_fd=parent)
        os.utime(link.name, ns=(link.mtime, link.mtime), dir_fd=parent, follow_symlinks=False)

    def join(self, members: Sequence[tuple[Place, File]]) -> None:
        """Create every file but the first, which exists, as a hard link of the first."""
        (first_place, first), *others = members
        for place, file in others:
            original = os.dup(self.open(first_place))
            try:
                parent = self.open(place)
                with naming(file.name):
                    os.link(first.name, file.name, src_dir_fd=original, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(original)

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


def write(fd: int, data: bytes) -> None:
    """Write all of the data, in as many write(2) calls as that takes."""
    unwritten = memoryview(data)
    while unwritten:
        unwritten = unwritten[os.write(fd, unwritten) :]


def write_sparse(fd: int, data: bytes) -> None:
    """Write at most `SPARSE_BYTES`, or skip them where all are zero: `settle` then makes a hole of them."""
    if data == _ZEROS[: len(data)]:
        os.lseek(fd, len(data), os.SEEK_CUR)
    else:
        write(fd, data)


def pour(original: int, copy: int) -> None:
    """Write all of `original`, from its first byte, to the current offset of `copy`."""
    offset = 0
    while True:
        data = os.pread(original, SPARSE_BYTES, offset)
        if not data:
            return
        offset += len(data)
        write_sparse(copy, data)


def settle(fd: int, file: File) -> None:
    """Set the file's size, mode and mtime, after its last byte was written or skipped."""
    os.ftruncate(fd, file.size)
    os.fchmod(fd, file.mode)
    os.utime(fd, ns=(file.mtime, file.mtime))


def readable(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
