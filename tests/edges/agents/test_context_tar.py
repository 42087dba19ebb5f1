"""The archive of a context: every entry as the disk has it, whatever its mode and the locale of the login are."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from agents.base.closed_files import walk
from agents.engine import context_tar
from tests.services.commands import run_limited
from tests.services.nasty_trees import grow
from tests.services.paths import ROOT

DOCKERFILE = b"FROM scratch\n"
SEND = """
import os, sys
from pathlib import Path
from agents.engine import context_tar
with open(os.devnull, "wb") as log:
    context_tar.send(Path(sys.argv[1]), b"FROM scratch\\n", "spare", sys.stdout.buffer.write, log)
"""


def sent(context: Path, name: str = "spare") -> bytes:
    stream = io.BytesIO()
    context_tar.send(context, DOCKERFILE, name, stream.write, io.BytesIO())
    return stream.getvalue()


def members(archive: bytes) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(archive), encoding="utf-8", errors="surrogateescape") as opened:
        for member in opened:
            content = opened.extractfile(member) if member.isreg() else None
            yield member, content.read() if content else b""


@pytest.mark.parametrize("seed", range(8))
def test_every_entry_is_as_the_disk_has_it(tmp_path: Path, seed: int):
    """Mode, time to the nanosecond, link and content; root's, with nothing else. No two of them share a name."""
    grow(tmp_path / "tree", seed, "FROM the-users-own\n")
    disk = {
        relative.decode("utf-8", "surrogateescape"): (path, status)
        for path, relative, status in walk(tmp_path / "tree")
    }

    found = {member.name: (member, content) for member, content in members(sent(tmp_path / "tree"))}

    assert found.keys() == {*disk, ".", "spare"}
    for name, (path, status) in disk.items():
        member, content = found[name]
        time = Decimal(member.pax_headers.get("mtime", member.mtime))
        assert (member.mode, time) == (stat.S_IMODE(status.st_mode), Decimal(status.st_mtime_ns).scaleb(-9)), name
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
        assert member.pax_headers.keys() <= {"path", "linkpath", "mtime", "hdrcharset"}
        if member.issym():
            assert member.linkname == str(Path(os.fsdecode(path)).readlink())
        elif member.islnk():
            assert disk[member.linkname][1].st_ino == status.st_ino
        elif member.isreg():
            assert content == Path(os.fsdecode(path)).read_bytes()


def test_links_of_a_file_are_links(tmp_path: Path):
    """One content, and its other names in the order of the names; a file whose other links are elsewhere is a file."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "b").write_bytes(b"twenty")
    for name in ("a", "c"):
        (tree / name).hardlink_to(tree / "b")
    (tree / "d").write_bytes(b"twenty")
    (tmp_path / "elsewhere").hardlink_to(tree / "d")

    found = [(one.name, one.type, one.linkname, one.size) for one, _ in members(sent(tree))]

    assert found[1:-1] == [
        *(("a", tarfile.REGTYPE, "", 6), ("b", tarfile.LNKTYPE, "a", 0), ("c", tarfile.LNKTYPE, "a", 0)),
        ("d", tarfile.REGTYPE, "", 6),
    ]


def test_no_extended_attribute_is_sent(tmp_path: Path):
    (tmp_path / "file").touch()
    os.setxattr(tmp_path / "file", "user.note", b"secret")

    assert b"secret" not in sent(tmp_path)


def test_an_archive_does_not_begin_like_a_dockerfile(tmp_path: Path):
    """Its first header is an entry's own, though the names that follow need more."""
    (tmp_path / ("n" * 200)).touch()

    archive = sent(tmp_path)

    assert archive[156:157] == tarfile.DIRTYPE
    assert archive[257:262] == b"ustar"


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_the_locale_of_the_login_has_no_say(tmp_path: Path, locale: str):
    """Also where Python has no mode for it that makes up for a locale of ASCII."""
    grow(tmp_path / "tree", 3, "FROM the-users-own\n")
    environment = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}

    done = run_limited(
        [sys.executable, "-c", SEND, str(tmp_path / "tree")], check=True, stdout=subprocess.PIPE, env=environment
    )

    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(sent(tmp_path / "tree")).digest()


def test_times_before_1970_are_told_of(tmp_path: Path):
    """Links keep them."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    log = io.BytesIO()
    for name in ("file", "link"):
        os.utime(tmp_path / name, ns=(-1, -1), follow_symlinks=False)

    context_tar.send(tmp_path, DOCKERFILE, "spare", lambda _: None, log)

    assert log.getvalue().startswith(b"archloom: 1 files or folders are older than 1970")


def test_the_dockerfile_is_where_it_is_not_taken_for_another(tmp_path: Path):
    """Its own path where the context has it as it is; never in place of the user's, nor of what has the spare name."""
    (tmp_path / "Dockerfile").write_bytes(DOCKERFILE)
    (tmp_path / "link").symlink_to("Dockerfile")

    assert context_tar.place_for(tmp_path, "./Dockerfile", DOCKERFILE) == "Dockerfile"
    assert context_tar.place_for(tmp_path, "Dockerfile", b"FROM other\n") == ".archloom.Dockerfile"
    assert context_tar.place_for(tmp_path, "link", DOCKERFILE) == ".archloom.Dockerfile"
    (tmp_path / ".archloom.Dockerfile").touch()
    assert context_tar.place_for(tmp_path, "absent", DOCKERFILE) == ".archloom.Dockerfile_"
    assert [member.name for member, _ in members(sent(tmp_path, "Dockerfile"))].count("Dockerfile") == 1
