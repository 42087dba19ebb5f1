"""A PAX tar stream into a folder, and nowhere else, whatever the names in it say; memory stays flat."""

from __future__ import annotations

import errno
import os
import tarfile
from decimal import Decimal
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple, cast

from agents.errors import AgentError

_CHUNK = 262144
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# The parts of a path, as bytes: a name is whatever the sender's file system had, in any locale here.
Parts = tuple[bytes, ...]


class Received(NamedTuple):
    """What arrived: entries of the archive, and the bytes of its files."""

    entries: int
    bytes: int


def unpack(stream: BinaryIO, root: Path) -> Received:
    """Every entry of the archive below `root`, an existing empty folder, with modes and mtimes.

    Raises AgentError `cut` where the stream ends before the archive does, and `bad_request` for an entry that would
    reach outside, or that is not a file, a directory or a link.
    """
    source = _Source(stream)
    tree = _Tree(root)
    entries = size = 0
    try:
        # The error handler keeps names that are not UTF-8.
        with tarfile.open(
            fileobj=cast("BinaryIO", source), mode="r|", encoding="utf-8", errors="surrogateescape"
        ) as archive:
            while True:
                member = archive.next()
                if member is None:
                    break
                # TarFile remembers every member it has seen.
                archive.members.clear()  # type: ignore[attr-defined]
                size += _add(tree, archive, member)
                entries += 1
        tree.finish()
    except tarfile.TarError as error:
        raise AgentError("cut", f"the context is no whole archive: {error}") from error
    finally:
        tree.close()
    # An end between two entries looks like the end of the archive to tarfile; but only a whole archive ends by a mark.
    if source.ended:
        raise AgentError("cut", f"the context ended after {entries} entries, before the end of the archive")
    return Received(entries, size)


def _add(tree: _Tree, archive: tarfile.TarFile, member: tarfile.TarInfo) -> int:
    parts = _parts(member.name)
    if member.isdir():
        tree.add_directory(parts, member)
    elif not parts:
        raise _unsafe(member.name, "is the context itself")
    elif member.issym():
        tree.add_symlink(parts, member)
    elif member.islnk():
        return tree.add_copy(parts, member)
    elif member.isreg():
        content = archive.extractfile(member)
        return tree.add_file(parts, member, content) if content else 0
    else:
        raise _unsafe(member.name, "is not a file, a directory or a link")
    return 0


class _Source:
    """The stream, and whether somebody read past its end. Reading is all that tarfile does to a stream."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.ended = False

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.ended = self.ended or not data
        return data


class _Tree:
    """Entries below an open directory. Parents are opened one by one, never through a symbolic link."""

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, _DIRECTORY)
        # Archives are sorted, so the last parent is nearly always the next one's.
        self._last: tuple[Parts, int] = ((), os.dup(self._root))
        self._directories: dict[Parts, tuple[int, int]] = {}

    def close(self) -> None:
        os.close(self._last[1])
        os.close(self._root)

    def finish(self) -> None:
        """Directories get their modes and times now: before, entries were still to be made in them."""
        for parts in sorted(self._directories, key=len, reverse=True):
            mode, mtime = self._directories[parts]
            fd = self._walk(parts)
            try:
                os.fchmod(fd, mode)
                os.utime(fd, ns=(mtime, mtime))
            finally:
                os.close(fd)

    def add_directory(self, parts: Parts, member: tarfile.TarInfo) -> None:
        if parts:
            parent = self._parent(parts)
            try:
                os.mkdir(parts[-1], 0o700, dir_fd=parent)
            except FileExistsError:
                os.close(self._walk(parts))
        self._directories[parts] = (member.mode & 0o7777, _mtime(member))

    def add_file(self, parts: Parts, member: tarfile.TarInfo, content: IO[bytes]) -> int:
        parent = self._parent(parts)
        _clear(parts, parent)
        fd = os.open(parts[-1], _NEW_FILE, 0o600, dir_fd=parent)
        with os.fdopen(fd, "wb", buffering=0) as file:
            size = 0
            while True:
                data = content.read(_CHUNK)
                if not data:
                    break
                size += len(data)
                while data:
                    data = data[file.write(data) :]
            os.fchmod(fd, member.mode & 0o7777)
            os.utime(fd, ns=(_mtime(member), _mtime(member)))
        return size

    def add_copy(self, parts: Parts, member: tarfile.TarInfo) -> int:
        """A hard link of the sender becomes a file of its own: to a build it is the same."""
        target = _parts(member.linkname)
        if not target:
            raise _unsafe(member.name, "links to the context itself")
        try:
            fd = os.open(target[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._parent(target))
        except OSError as error:
            raise _unsafe(member.name, f"links to {member.linkname!r}: {error.strerror}") from error
        with os.fdopen(fd, "rb", buffering=0) as content:
            return self.add_file(parts, member, content)

    def add_symlink(self, parts: Parts, member: tarfile.TarInfo) -> None:
        parent = self._parent(parts)
        _clear(parts, parent)
        # Where it points is the Dockerfile's business; nothing here ever follows it.
        os.symlink(_bytes(member.linkname), parts[-1], dir_fd=parent)
        os.utime(parts[-1], ns=(_mtime(member), _mtime(member)), dir_fd=parent, follow_symlinks=False)

    def _parent(self, parts: Parts) -> int:
        wanted, fd = parts[:-1], self._last[1]
        if self._last[0] != wanted:
            opened = self._walk(wanted)
            self._last = (wanted, opened)
            os.close(fd)
        return self._last[1]

    def _walk(self, parts: Parts) -> int:
        """An open directory; what is missing on the way is made, what is no directory is refused."""
        fd = os.dup(self._root)
        try:
            for part in parts:
                below = _step(fd, part)
                os.close(fd)
                fd = below
        except BaseException as error:
            os.close(fd)
            # Linux has used both for a symbolic link where a directory is asked for.
            if isinstance(error, OSError) and error.errno in {errno.ENOTDIR, errno.ELOOP}:
                raise _unsafe(_readable(parts), "goes through something that is no directory") from error
            raise
        return fd


def _step(fd: int, part: bytes) -> int:
    try:
        return os.open(part, _DIRECTORY, dir_fd=fd)
    except FileNotFoundError:
        os.mkdir(part, 0o755, dir_fd=fd)
        return os.open(part, _DIRECTORY, dir_fd=fd)


def _clear(parts: Parts, parent: int) -> None:
    """As tar does: a later entry replaces an earlier one of the same name, but never a directory."""
    try:
        os.unlink(parts[-1], dir_fd=parent)
    except FileNotFoundError:
        return
    except IsADirectoryError as error:
        raise _unsafe(_readable(parts), "is a directory already") from error


def _parts(name: str) -> Parts:
    path = _bytes(name)
    parts = tuple(part for part in path.split(b"/") if part not in {b"", b"."})
    if path.startswith(b"/") or b".." in parts:
        raise _unsafe(name, "leads out of it")
    return parts


def _bytes(name: str) -> bytes:
    try:
        path = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise _unsafe(name, "is no file name") from error
    if b"\0" in path:
        raise _unsafe(name, "has a NUL in its name")
    return path


def _mtime(member: tarfile.TarInfo) -> int:
    """Nanoseconds. The number in the header is a float, which cannot hold them; its text can."""
    return int(Decimal(member.pax_headers.get("mtime", member.mtime)) * 10**9)


def _readable(parts: Parts) -> str:
    return b"/".join(parts).decode("utf-8", "surrogateescape")


def _unsafe(name: str, why: str) -> AgentError:
    return AgentError("bad_request", f"refused in the context: {name!a} {why}")
