"""A job's context as the tar stream `POST /build` reads; memory stays flat."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

_PIECE = 262144

Send = Callable[[bytes], None]


def send(context: Path, dockerfile: str, name: str, emit: Send) -> None:
    """Emit the archive: the context with `dockerfile` as its file `name`, in place of one of that name.

    Owned by root, as docker has it; names sorted, so the same context is the same archive. Raises OSError where the
    context cannot be read.
    """
    text = dockerfile.encode()
    with tarfile.open(
        fileobj=cast("BinaryIO", _Pieces(emit)),
        mode="w|",
        bufsize=_PIECE,
        format=tarfile.PAX_FORMAT,
        encoding="utf-8",
        errors="surrogateescape",
    ) as archive:
        # BuildKit looks at 512 bytes to tell an archive from a Dockerfile: the first entry must do without PAX fields.
        root = tarfile.TarInfo(".")
        root.type, root.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(root)
        for relative in entries(context):
            if relative == name:
                continue
            _add(archive, context, relative)
            # TarFile remembers every member it has written.
            archive.members.clear()  # type: ignore[attr-defined]
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(text), 0o644
        archive.addfile(member, BytesIO(text))


def place_for(context: Path, dockerfile_path: str) -> str:
    """The name the effective Dockerfile is sent under: its own where the context has it, else one that is free.

    BuildKit reads it from the archive, so it has to be there, and a `COPY . .` sees it.
    """
    wanted = os.path.normpath(dockerfile_path)
    if wanted in entries(context):
        return wanted
    name = ".archloom.Dockerfile"
    while os.path.lexists(context / name):
        name += "_"
    return name


def entries(context: Path) -> Iterator[str]:
    """Every path below the context, relative to it; a directory before what is in it. Raises OSError."""
    for parent, folders, files in os.walk(context, onerror=_raise):
        folders.sort()
        for name in sorted((*folders, *files)):
            yield os.path.relpath(os.path.join(parent, name), context)  # noqa: PTH118 - names that are not UTF-8


def _raise(error: OSError) -> None:
    # os.walk passes over what it cannot read, unless it is told not to.
    raise error


def _add(archive: tarfile.TarFile, context: Path, relative: str) -> None:
    path = context / relative
    member = archive.gettarinfo(path, relative)
    # A hard link would name a member; the files are what counts.
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
    """All that tarfile wants of a stream it writes."""

    def __init__(self, write: Send) -> None:
        self._write = write

    def write(self, data: bytes) -> int:
        self._write(data)
        return len(data)
