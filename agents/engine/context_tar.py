"""Sends a job's context as the tar stream that BuildKit reads. Keeps no more of it in memory than names of links."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from agents.base.closed_files import opened, walk

if TYPE_CHECKING:
    import tarfile

_BUFFER_BYTES = 262144
_SECOND = 1_000_000_000
# moby's pkg/archive sets such times to the epoch: unixMinTime in
# https://github.com/moby/moby/blob/v20.10.24/pkg/system/chtimes.go.
_EARLY = "archloom: {} files or folders are older than 1970, and get the time 0: the context is sent as an archive\n"

# Values of `typeflag` (POSIX.1-2017, pax, "ustar Interchange Format").
_HARD_LINK, _SYMBOLIC_LINK, _FOLDER = b"1", b"2", b"5"

Send = Callable[[bytes], None]


def send(context: Path, dockerfile: bytes, name: str, emit: Send, log: BinaryIO) -> None:
    """Emit the archive: the context, with the text `dockerfile` as its file `name` unless the context has that file.

    Entries are as `docker build` has them of the folder: owned by root, without extended attributes, with their modes,
    times and hard links. They are sorted by name, so equal contexts give equal archives. A line in the log tells of
    times before 1970, which engines do not take from an archive. Raises OSError where the context cannot be read.
    """
    import tarfile  # few builds need it, and it imports shutil

    with tarfile.open(
        fileobj=cast("BinaryIO", _Pieces(emit)),
        mode="w|",
        bufsize=_BUFFER_BYTES,
        format=tarfile.PAX_FORMAT,
        encoding="utf-8",
        errors="surrogateescape",
    ) as archive:
        # BuildKit takes the stream for a Dockerfile unless its first 1024 bytes begin a tar archive (isArchive in
        # https://github.com/moby/buildkit/blob/master/frontend/dockerui/context.go). PAX fields fill as many bytes
        # before the entry's own header, so the first entry must have none.
        root = tarfile.TarInfo(".")
        root.type, root.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(root)
        sender = _Sender(archive)
        has_dockerfile = False
        for path, relative, status in walk(context):
            has_dockerfile = has_dockerfile or relative == os.fsencode(name)
            sender.add(path, relative, status)
        if not has_dockerfile:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(dockerfile), 0o644
            archive.addfile(member, BytesIO(dockerfile))
    if sender.early:
        log.write(_EARLY.format(sender.early).encode())


def place_for(context: Path, dockerfile_path: str, dockerfile: bytes) -> str:
    """Return the name of the Dockerfile in the archive: its own where the context has it as it is, else an unused one.

    BuildKit reads the Dockerfile from the archive, and sources such as `COPY . .` take it from there. So a rewritten
    Dockerfile never replaces the user's, and no build that takes files of any name is given one (`dockerfile_apart` in
    `agents/README.md`).
    """
    own_name = os.path.normpath(dockerfile_path)
    if _has(context, own_name, dockerfile):
        return own_name
    name = ".archloom.Dockerfile"
    while os.path.lexists(context / name):
        name += "_"
    return name


def _has(context: Path, name: str, content: bytes) -> bool:
    """Whether the context has this file with this content, and not through a symbolic link."""
    path = os.path.join(os.fsencode(context), os.fsencode(name))  # noqa: PTH118 - names that are not UTF-8
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size != len(content):
            return False
        with opened(path) as file:
            return file.read() == content
    except OSError:
        return False


class _Sender:
    """Adds the entries of one context to an archive. `early` counts times before 1970 that engines do not keep."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._first: dict[int, str] = {}
        self.early = 0

    def add(self, path: bytes, relative: bytes, status: os.stat_result) -> None:
        member = self._archive.tarinfo(relative.decode("utf-8", "surrogateescape"))
        member.mode = stat.S_IMODE(status.st_mode)
        seconds, fraction = divmod(status.st_mtime_ns, _SECOND)
        member.mtime = seconds
        if seconds < 0 or fraction:
            # tarfile writes a float, which is not exact and may have an exponent, which Go does not read.
            member.pax_headers = {"mtime": _decimal(status.st_mtime_ns)}
        self.early += seconds < 0 and not stat.S_ISLNK(status.st_mode)
        if stat.S_ISDIR(status.st_mode):
            member.type = _FOLDER
            self._write(member)
        elif stat.S_ISLNK(status.st_mode):
            member.type = _SYMBOLIC_LINK
            member.linkname = os.readlink(path).decode("utf-8", "surrogateescape")  # noqa: PTH115 - bytes
            self._write(member)
        elif stat.S_ISREG(status.st_mode):
            self._file(member, path, status)

    def _file(self, member: tarfile.TarInfo, path: bytes, status: os.stat_result) -> None:
        if status.st_nlink > 1:
            first = self._first.setdefault(status.st_ino, member.name)
            if first != member.name:
                member.type, member.linkname = _HARD_LINK, first
                self._write(member)
                return
        member.size = status.st_size
        with opened(path) as file:
            self._write(member, file)

    def _write(self, member: tarfile.TarInfo, content: BinaryIO | None = None) -> None:
        self._archive.addfile(member, content)
        # TarFile keeps every written member in memory.
        self._archive.members.clear()  # type: ignore[attr-defined]


def _decimal(nanoseconds: int) -> str:
    """Return the time in seconds, exactly."""
    sign, (seconds, fraction) = "-" if nanoseconds < 0 else "", divmod(abs(nanoseconds), _SECOND)
    return f"{sign}{seconds}.{fraction:09}".rstrip("0").rstrip(".")


class _Pieces:
    """The part of a binary file that tarfile uses to write a stream."""

    def __init__(self, write: Send) -> None:
        self._write = write

    def write(self, data: bytes) -> int:
        self._write(data)
        return len(data)
