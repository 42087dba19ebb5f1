"""Sends a job's context as the tar stream that `POST /build` reads, with constant memory."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

_BUFFER_BYTES = 262144

Send = Callable[[bytes], None]


def send(context: Path, dockerfile: str, name: str, emit: Send) -> None:
    """Emit the archive: the context, with the text `dockerfile` as its file `name`, which replaces an existing one.

    Entries are owned by root, as docker sends them, and sorted by name, so equal contexts give equal archives. Raises
    OSError where the context cannot be read.
    """
    text = dockerfile.encode()
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
        for relative in entries(context):
            if relative == name:
                continue
            _add(archive, context, relative)
            # TarFile keeps every written member in memory.
            archive.members.clear()  # type: ignore[attr-defined]
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(text), 0o644
        archive.addfile(member, BytesIO(text))


def place_for(context: Path, dockerfile_path: str) -> str:
    """Return the effective Dockerfile's name in the archive: its own where the context has it, else an unused one.

    BuildKit reads the Dockerfile from the archive, so the archive must contain it, and `COPY . .` copies it.
    """
    own_name = os.path.normpath(dockerfile_path)
    if own_name in entries(context):
        return own_name
    name = ".archloom.Dockerfile"
    while os.path.lexists(context / name):
        name += "_"
    return name


def entries(context: Path) -> Iterator[str]:
    """Yield every path below the context, relative to it; a directory before its entries. Raises OSError."""
    for parent, folders, files in os.walk(context, onerror=_raise):
        folders.sort()
        for name in sorted((*folders, *files)):
            yield os.path.relpath(os.path.join(parent, name), context)  # noqa: PTH118 - names that are not UTF-8


def _raise(error: OSError) -> None:
    # os.walk skips a directory it cannot read, unless `onerror` raises.
    raise error


def _add(archive: tarfile.TarFile, context: Path, relative: str) -> None:
    path = context / relative
    member = archive.gettarinfo(path, relative)
    # tarfile turns the second hard link to a file into a reference to the first: send the content instead.
    if member.islnk():
        member.type, member.linkname = tarfile.REGTYPE, ""
        member.size = path.stat().st_size
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    if member.isreg():
        with path.open("rb") as file:
            archive.addfile(member, file)
    else:
        archive.addfile(member)


class _Pieces:
    """The part of a binary file that tarfile uses to write a stream."""

    def __init__(self, write: Send) -> None:
        self._write = write

    def write(self, data: bytes) -> int:
        self._write(data)
        return len(data)
