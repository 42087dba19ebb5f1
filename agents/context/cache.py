"""What contexts of earlier jobs were made of, kept so that it need not be sent again: folder objects, and files.

A file of the store is a hard link of the file in the jobs' contexts. So a transfer that has taken a file has it
whatever becomes of the store, and nobody need know which transfers live. A link's mode and time are the object's,
so an object has those of who needed it last.

Nothing is flushed to the disk: on a card that takes minutes. Instead a file is trusted in the boot in which it was
written or read through, and read through again in the next: a power cut leaves files with holes, and none is taken.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agents.base import state
from agents.context.tree_objects import File
from agents.context.writer import naming, new_file, settle

FOLDERS = "folders"
_READ = 262144
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
# File systems without hard links, and files that have as many as there may be.
_NO_LINK = frozenset({errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV})


class Objects:
    """The store below one state folder, for one transfer. Any number may use it at the same time.

    `added` counts the bytes this one has put into it.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "objects"
        self.added = 0
        self._this_boot = self.root / state.boot_id()
        self._this_boot.mkdir(parents=True, exist_ok=True)
        # Only folders of boots are looked through for files.
        self._earlier = [
            path for path in self.root.iterdir() if path.is_dir() and path.name not in {FOLDERS, self._this_boot.name}
        ]
        self._lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        os.close(self._lock)

    def folder(self, digest: str) -> bytes | None:
        """The folder object, read through; None where it is not here."""
        path = _path(self.root / FOLDERS, digest)
        try:
            data = path.read_bytes()
            os.utime(path)
        except FileNotFoundError:
            return None
        if hashlib.sha256(data).hexdigest() != digest:
            path.unlink(missing_ok=True)
            return None
        return data

    def keep_folder(self, digest: str, data: bytes) -> None:
        path = _path(self.root / FOLDERS, digest)
        with _replacing(path) as fd:
            write(fd, data)
        self.added += len(data)

    def take(self, file: File, parent: int, *, alone: bool) -> bool:
        """Make the file in the folder `parent` of what is in the store; False where that lacks it.

        `alone`: as a copy, for a context that has the same content under another name already. Two names of one file
        would become a hard link in the image, and a build that writes to one would change both.
        """
        path = self._find(file)
        if path is None:
            return False
        if alone or not _may_share(file):
            return _copy(path, file, parent)
        with self._locked():
            linked = _link(path, file, parent)
        if linked is not None:
            return linked
        if not _copy(path, file, parent):
            return False
        self._put(path, file, parent, replace=True)
        return True

    def keep(self, file: File, parent: int) -> None:
        """Put the file in the folder `parent`, which is whole and was verified, into the store too."""
        if _may_share(file):
            self._put(_path(self._this_boot, file.digest), file, parent, replace=False)

    def _put(self, path: Path, file: File, parent: int, *, replace: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if replace:
                self._link_over(path, file, parent)
            else:
                os.link(file.name, path, src_dir_fd=parent, follow_symlinks=False)
        except FileExistsError:
            return  # another transfer has put it here meanwhile
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            original = os.open(file.name, _OPEN, dir_fd=parent)
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
        path = _path(self._this_boot, file.digest)
        if path.exists():
            return path
        for boot in self._earlier:
            old = _path(boot, file.digest)
            # Another transfer may move it, or throw it out, at the same time.
            with suppress(FileNotFoundError):
                if not _is_whole(old, file):
                    old.unlink()
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                with self._locked():
                    old.replace(path)
        return path if self._earlier and path.exists() else None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """While an object's links are counted, and whenever the store lets go of one."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)


def _path(root: Path, digest: str) -> Path:
    return root / digest[:2] / digest[2:]


def _may_share(file: File) -> bool:
    """Whether its owner may read it, under whichever mode it has in the context."""
    return bool(file.mode & 0o400)


def _link(path: Path, file: File, parent: int) -> bool | None:
    """Whether the file was there and is linked now; None where only a copy will do.

    Under the lock: between the look at an object's links and the change of its mode and time nobody else may link it,
    nor take the store's own name away, which is one of the two.
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
    found = os.stat(file.name, dir_fd=parent, follow_symlinks=False)
    if found.st_size == file.size:
        if (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (file.mode, file.mtime):
            return True
        if found.st_nlink == 2:  # the store's, and the new one: no other job has it
            os.chmod(file.name, file.mode, dir_fd=parent)
            os.utime(file.name, ns=(file.mtime, file.mtime), dir_fd=parent)
            return True
    os.unlink(file.name, dir_fd=parent)
    if found.st_size == file.size:
        return None
    path.unlink(missing_ok=True)
    return False


def _copy(path: Path, file: File, parent: int) -> bool:
    try:
        original = os.open(path, _OPEN)
    except FileNotFoundError:
        return False
    try:
        if os.fstat(original).st_size != file.size:
            return False
        copy = new_file(parent, file.name)
        try:
            pour(original, copy)
            settle(copy, file)
        finally:
            os.close(copy)
    finally:
        os.close(original)
    return True


def _is_whole(path: Path, file: File) -> bool:
    """Whether the object has survived. Raises FileNotFoundError where there is none."""
    found = hashlib.sha256()
    with path.open("rb", buffering=0) as content:
        if os.fstat(content.fileno()).st_size != file.size:
            return False
        while True:
            data = content.read(_READ)
            if not data:
                return found.hexdigest() == file.digest
            found.update(data)


def pour(original: int, copy: int) -> None:
    """All of one file behind what the other has; the first is read from its beginning."""
    at = 0
    while True:
        data = os.pread(original, _READ, at)
        if not data:
            return
        at += len(data)
        write(copy, data)


def write(fd: int, data: bytes) -> None:
    """All of the data, however much the system takes at once."""
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


@contextmanager
def _replacing(path: Path) -> Iterator[int]:
    """A descriptor of what becomes the file once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        try:
            yield fd
        finally:
            os.close(fd)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
