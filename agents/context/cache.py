"""The object store: folder objects and files of earlier contexts, kept so that they need not be sent again.

A file in the store is a hard link to the file in the context folders. A transfer that has taken a file keeps it even
if the store evicts it, so eviction need not know which transfers are running. Hard links share mode and mtime, so an
object has the mode and mtime that the last job to take it needed.

Nothing is flushed with fsync: on an SD card that takes minutes. Instead a file is trusted only in the boot in which it
was written or its digest was verified, and is verified again in the next boot: a power cut can leave files with holes.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agents.base import files, locks, state
from agents.base.trees import remove
from agents.context.tree_objects import File
from agents.context.writer import naming, new_file, pour, settle, write

FOLDERS = "folders"
_READ_BYTES = 262144
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
# link(2) on a file system without hard links, across file systems, or at a file's maximum number of links.
_NO_LINK = frozenset({errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV})


class Objects:
    """The object store below one state folder, opened for one transfer. Any number of transfers may use it at once.

    `added` counts the bytes that this transfer has put into the store.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "objects"
        self.added = 0
        self._this_boot = self.root / state.boot_id()
        for folder in (self._this_boot, self.root / FOLDERS):
            files.make_folder(folder)
        # Files are looked up only in the folders of boots.
        self._earlier = [
            path for path in self.root.iterdir() if path.is_dir() and path.name not in {FOLDERS, self._this_boot.name}
        ]
        self._lock = files.open_lock(self.root / "lock")

    def close(self) -> None:
        os.close(self._lock)

    def folder(self, digest: str) -> bytes | None:
        """Return the folder object after verifying its digest; None where the store lacks it.

        Mark it as used; delete it where its digest is wrong.
        """
        path = _path(self.root / FOLDERS, digest)
        data = files.read(path)
        if data is None or hashlib.sha256(data).hexdigest() != digest:
            with suppress(NotADirectoryError):
                remove(path)
            return None
        with suppress(FileNotFoundError):  # another transfer has evicted it meanwhile
            os.utime(path)
        return data

    def use_folder(self, digest: str) -> bool:
        """Mark the folder object as used, without reading it; return whether the store has it."""
        try:
            os.utime(_path(self.root / FOLDERS, digest))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def keep_folder(self, digest: str, data: bytes) -> None:
        path = _path(self.root / FOLDERS, digest)
        with _replacing(path) as fd:
            write(fd, data)
        self.added += len(data)

    def take(self, file: File, parent: int, alone: Callable[[], bool]) -> bool:
        """Create the file in the folder with descriptor `parent` from the store. Return False where the store lacks it.

        `alone` returns whether to create a copy, because the context already has this content under another name. Two
        links to one file would be a hard link in the image, and a build that writes to one name would change both. It
        may have to read the folders that were left out, so it is called only for a file that the store has.
        """
        path = self._find(file)
        if path is None:
            return False
        if not may_share(file) or alone():
            return _copy_of(path, file, parent)
        with self._locked():
            linked = _link(path, file, parent)
        if linked is not None:
            return linked
        if not _copy_of(path, file, parent):
            return False
        self._put(path, file, parent, replace=True)
        return True

    def retouch(self, file: File, parent: int) -> None:
        """Give the file of this name and content in the folder with descriptor `parent` its new mode and mtime.

        A fresh clone has new times for all files. So nothing is copied where no other folder has the file.
        """
        path = _path(self._this_boot, file.digest)
        with self._locked():
            status = os.stat(file.name, dir_fd=parent, follow_symlinks=False)
            # The second of two links is the store's, or that of another folder where the store has evicted the file.
            if status.st_nlink == 1 or (status.st_nlink == 2 and _is_inode(path, status)):
                os.chmod(file.name, file.mode, dir_fd=parent)
                os.utime(file.name, ns=(file.mtime, file.mtime), dir_fd=parent)
                return
        original = os.open(file.name, _OPEN_FLAGS, dir_fd=parent)
        try:
            os.unlink(file.name, dir_fd=parent)
            _copy(original, file, parent)
        finally:
            os.close(original)
        self._put(path, file, parent, replace=True)

    def keep(self, file: File, parent: int) -> None:
        """Add the complete and verified file in the folder with descriptor `parent` to the store."""
        if may_share(file):
            self._put(_path(self._this_boot, file.digest), file, parent, replace=False)

    def _put(self, path: Path, file: File, parent: int, *, replace: bool) -> None:
        files.make_folder(path.parent)
        try:
            if replace:
                self._link_over(path, file, parent)
            else:
                os.link(file.name, path, src_dir_fd=parent, follow_symlinks=False)
        except FileExistsError:
            return  # another transfer has added this object meanwhile
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            original = os.open(file.name, _OPEN_FLAGS, dir_fd=parent)
            try:
                with _replacing(path) as copy:
                    pour(original, copy)
                    settle(copy, file)
            finally:
                os.close(original)
        self.added += file.size

    def _link_over(self, path: Path, file: File, parent: int) -> None:
        link = path.with_name(f".{path.name}")
        with self._locked():
            link.unlink(missing_ok=True)
            os.link(file.name, link, src_dir_fd=parent, follow_symlinks=False)
            link.replace(path)

    def _find(self, file: File) -> Path | None:
        """Return the object's path; None where the store lacks it. Verifies and moves an object of an earlier boot."""
        path = _path(self._this_boot, file.digest)
        if path.exists():
            return path
        for boot in self._earlier:
            old = _path(boot, file.digest)
            # Another transfer may move or evict it at the same time.
            with suppress(FileNotFoundError):
                if not _is_whole(old, file):
                    old.unlink()
                    continue
                files.make_folder(path.parent)
                with self._locked():
                    old.replace(path)
        return path if self._earlier and path.exists() else None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the store's lock: needed to count an object's links, and to remove or move a link of the store."""
        locks.acquire(self._lock, self.root / "lock")
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)


def _path(root: Path, digest: str) -> Path:
    return root / digest[:2] / digest[2:]


def may_share(file: File) -> bool:
    """Whether the file's owner can read it with the mode it has in the context, so that the store may link it."""
    return bool(file.mode & 0o400)


def _is_inode(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.lstat(), status)
    except FileNotFoundError:
        return False


def _link(path: Path, file: File, parent: int) -> bool | None:
    """Link the object into the folder. Return False where the store lacks it, None where only a copy is possible.

    The caller holds the store's lock: between counting the object's links and changing its mode and mtime, no other
    transfer may link it, nor remove the store's own link, which is one of the two counted.
    """
    try:
        with naming(file.name):
            os.link(path, file.name, dst_dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in _NO_LINK:
            return None
        raise
    status = os.stat(file.name, dir_fd=parent, follow_symlinks=False)
    if status.st_size == file.size:
        if (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (file.mode, file.mtime):
            return True
        if status.st_nlink == 2:  # the store's link and the new one: no other job uses the file
            os.chmod(file.name, file.mode, dir_fd=parent)
            os.utime(file.name, ns=(file.mtime, file.mtime), dir_fd=parent)
            return True
    os.unlink(file.name, dir_fd=parent)
    if status.st_size == file.size:
        return None
    path.unlink(missing_ok=True)
    return False


def _copy_of(path: Path, file: File, parent: int) -> bool:
    try:
        original = os.open(path, _OPEN_FLAGS)
    except FileNotFoundError:
        return False
    try:
        if os.fstat(original).st_size != file.size:
            return False
        _copy(original, file, parent)
    finally:
        os.close(original)
    return True


def _copy(original: int, file: File, parent: int) -> None:
    copy = new_file(parent, file.name)
    try:
        pour(original, copy)
        settle(copy, file)
    finally:
        os.close(copy)


def _is_whole(path: Path, file: File) -> bool:
    """Whether the object's content matches its size and digest. Raises FileNotFoundError where it is missing."""
    hasher = hashlib.sha256()
    with path.open("rb", buffering=0) as content:
        if os.fstat(content.fileno()).st_size != file.size:
            return False
        while True:
            data = content.read(_READ_BYTES)
            if not data:
                return hasher.hexdigest() == file.digest
            hasher.update(data)


@contextmanager
def _replacing(path: Path) -> Iterator[int]:
    """Yield the descriptor of a temporary file, which replaces `path` once it is complete."""
    files.make_folder(path.parent)
    partial = path.with_name(f".{os.urandom(8).hex()}")
    fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            yield fd
        finally:
            os.close(fd)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
