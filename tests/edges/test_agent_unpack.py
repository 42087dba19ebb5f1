"""A context arrives whole, as it was sent, and inside its folder; or not at all."""

from __future__ import annotations

import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.errors import AgentError
from agents.unpack import unpack


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644, data: bytes = b""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, link, mode, len(data)
    info.pax_headers = {"mtime": "1700000000.123456789"}
    return info, data


def archive(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as made:
        for info, data in entries:
            made.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def send(root: Path, *entries: tuple[tarfile.TarInfo, bytes]):
    root.mkdir()
    return unpack(io.BytesIO(archive(*entries)), root)


def test_files_directories_and_links_arrive_as_they_were(tmp_path: Path):
    """Contents, modes and mtimes to the nanosecond are kept, also below a directory that may not be written."""
    root = tmp_path / "context"

    received = send(
        root,
        entry("closed", tarfile.DIRTYPE, mode=0o555),
        entry("closed/run.sh", mode=0o755, data=b"#!/bin/sh\n"),
        entry("empty", tarfile.DIRTYPE, mode=0o750),
        entry("link", tarfile.SYMTYPE, link="/etc/passwd"),
        entry("twin", tarfile.LNKTYPE, link="closed/run.sh", mode=0o700),
    )

    assert received == (5, 20)
    assert (root / "closed/run.sh").read_bytes() == (root / "twin").read_bytes() == b"#!/bin/sh\n"
    assert not (root / "twin").samefile(root / "closed/run.sh")
    modes = {path.name: path.lstat().st_mode & 0o777 for path in root.rglob("*") if not path.is_symlink()}
    assert modes == {"closed": 0o555, "run.sh": 0o755, "empty": 0o750, "twin": 0o700}
    assert {path.lstat().st_mtime_ns for path in root.rglob("*")} == {1700000000123456789}
    assert (root / "link").readlink() == Path("/etc/passwd")


NAMES = ["ü ñ.txt", "new\nline", "bad\udcff\udcfe", "-rf", " ", "quote'\"", "x" * 255, "a\\b", "*", "~"]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_arrive_as_bytes(tmp_path: Path, name: str):
    """A name is whatever bytes the sender's file system had."""
    send(tmp_path / "context", entry(f"dir/{name}", data=b"x"))

    arrived = [os.fsencode(path.name) for path in (tmp_path / "context/dir").iterdir()]
    assert arrived == [name.encode("utf-8", "surrogateescape")]


@pytest.mark.parametrize(
    "entries",
    [
        [entry("../outside", data=b"x")],
        [entry("a/../../outside", data=b"x")],
        [entry("/outside", data=b"x")],
        [entry("..", tarfile.DIRTYPE)],
        [entry("door", tarfile.SYMTYPE, link=".."), entry("door/outside", data=b"x")],
        [entry("door", tarfile.SYMTYPE, link=".."), entry("door/outside", tarfile.DIRTYPE)],
        [entry("door", tarfile.SYMTYPE, link=".."), entry("door/a/outside", data=b"x")],
        [entry("door", tarfile.SYMTYPE, link=".."), entry("door", tarfile.DIRTYPE), entry("door/outside", data=b"x")],
        [entry("door", tarfile.SYMTYPE, link=".."), entry("door/outside", tarfile.SYMTYPE, link="x")],
        [entry("door", tarfile.SYMTYPE, link="../secret"), entry("copy", tarfile.LNKTYPE, link="door")],
        [entry("copy", tarfile.LNKTYPE, link="../secret")],
        [entry("copy", tarfile.LNKTYPE, link="nothing")],
        [entry("door", tarfile.SYMTYPE, link=".."), entry("copy", tarfile.LNKTYPE, link="door/secret")],
        [entry("file", data=b"x"), entry("file/below", data=b"x")],
        [entry("dir", tarfile.DIRTYPE), entry("dir", data=b"x")],
        [entry(".", data=b"x")],
        [entry("fifo", tarfile.FIFOTYPE)],
        [entry("device", tarfile.CHRTYPE)],
    ],
)
def test_nothing_reaches_outside(tmp_path: Path, entries: list[tuple[tarfile.TarInfo, bytes]]):
    """An entry that leads out of the context, or is neither file, directory nor link, is refused."""
    (tmp_path / "secret").write_bytes(b"secret")

    with pytest.raises(AgentError) as refused:
        send(tmp_path / "context", *entries)

    assert refused.value.code == "bad_request"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["context", "secret"]
    arrived = [path for path in (tmp_path / "context").rglob("*") if path.is_file() and not path.is_symlink()]
    assert all(path.read_bytes() != b"secret" for path in arrived)


def test_a_file_never_writes_through_a_link_of_its_name(tmp_path: Path):
    """A later entry replaces a link, instead of writing to where it points."""
    (tmp_path / "victim").write_bytes(b"untouched")

    send(tmp_path / "context", entry("name", tarfile.SYMTYPE, link="../victim"), entry("name", data=b"new"))

    assert (tmp_path / "victim").read_bytes() == b"untouched"
    assert (tmp_path / "context/name").read_bytes() == b"new"


WHOLE = archive(
    entry("a", tarfile.DIRTYPE, mode=0o755), entry("a/b", data=b"x" * 700), entry("c" * 200, data=b"y"), entry("d")
)
# The first block of zeros ends the archive; what follows is padding.
END = len(WHOLE.rstrip(b"\0")) // 512 * 512 + 512 + 512


@given(st.integers(0, END - 1))
def test_a_cut_archive_is_never_taken_for_a_whole_one(tmp_path_factory: pytest.TempPathFactory, cut: int):
    """Wherever the stream ends before the archive's mark, also between two entries, it is refused."""
    root = tmp_path_factory.mktemp("context")

    with pytest.raises(AgentError) as refused:
        unpack(io.BytesIO(WHOLE[:cut]), root)

    assert refused.value.code == "cut"


@pytest.mark.parametrize("cut", range(512, END, 512))
def test_a_cut_between_blocks_is_noticed(tmp_path: Path, cut: int):
    """The cuts that look most like an end are no end."""
    with pytest.raises(AgentError) as refused:
        unpack(io.BytesIO(WHOLE[:cut]), tmp_path)

    assert refused.value.code == "cut"


def test_an_archive_that_ends_with_its_mark_is_whole(tmp_path: Path):
    """Padding is not part of the promise: other tars write less of it."""
    assert unpack(io.BytesIO(WHOLE[: END + 512]), tmp_path).entries == 4


def test_memory_does_not_grow_with_the_context(tmp_path: Path):
    """A file is never in memory as a whole, and entries are forgotten."""

    class Endless(io.RawIOBase):
        """An archive of 40 MB, made while it is read."""

        def __init__(self) -> None:
            self._parts = (part for part in self._make())
            self._rest = b""

        def _make(self):
            for number in range(40):
                info, _ = entry(f"f{number}")
                info.size = 1 << 20
                yield info.tobuf(tarfile.PAX_FORMAT)
                for _ in range(16):
                    yield bytes(1 << 16)
            yield bytes(1024)

        def readable(self) -> bool:
            return True

        def readinto(self, into) -> int:
            self._rest = self._rest or next(self._parts, b"")
            data, self._rest = self._rest[: len(into)], self._rest[len(into) :]
            into[: len(data)] = data
            return len(data)

    stream = io.BufferedReader(Endless())
    tracemalloc.start()
    try:
        received = unpack(stream, tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert received == (40, 40 << 20)
    assert peak < 2 << 20
