"""Files are read once, and not again by a later run; what may have changed is."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from coordinator.context.digest_cache import DigestCache
from coordinator.context.file_content import SETTLED_NS
from coordinator.context.file_digests import BUFFER, FileDigests
from coordinator.context.offer import ContextOffer
from coordinator.context.tree import scan
from coordinator.domain.dockerfile.dockerignore import compile_ignore
from coordinator.errors import UsageError
from tests.services.commands import Child

ALL = compile_ignore("")


class Reader:
    """The digests of one run after another. Their clock is ahead, so that no file has just changed."""

    def __init__(self, cache: Path | None) -> None:
        self.cache = cache

    def run(self, *paths: Path, ahead_ns: int = 3_000_000_000) -> list[str]:
        digests = FileDigests(self.cache, lambda: time.time_ns() + ahead_ns)
        readings = [digests.read(os.fsencode(path), path.lstat(), path.name, lambda _: None) for path in paths]
        digests.save()
        digests.close()
        return [reading.digest for reading in readings if reading]


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path / "state/digests.db")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def rows(cache: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(cache)) as connection:
        return connection.execute("SELECT * FROM digests").fetchall()


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_an_unchanged_file_is_not_read_again(path: Path, reader: Reader):
    """What is stored is believed: a digest put there by hand comes back."""
    assert reader.run(path) == [sha(b"content")]
    with closing(sqlite3.connect(str(reader.cache))) as connection, connection:
        connection.execute("UPDATE digests SET digest = ?", [b"\7" * 32])

    assert reader.run(path) == ["07" * 32]


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"CONTENT"),
        lambda path: path.write_bytes(b"longer content"),
        lambda path: (path.rename(path.with_name("old")), path.write_bytes(b"CONTENT")),
    ],
)
def test_a_changed_file_is_read_again(path: Path, reader: Reader, change: Callable[[Path], object]):
    """Also where its time of modification is what it was."""
    reader.run(path)
    mtime_ns = path.stat().st_mtime_ns
    change(path)
    os.utime(path, ns=(0, mtime_ns))

    assert reader.run(path) == [sha(path.read_bytes())]


def test_a_file_that_has_just_changed_is_not_stored(path: Path, reader: Reader):
    """It may change again without another time, and so may one from the future."""
    reader.run(path, ahead_ns=0)
    os.utime(path, ns=(0, time.time_ns() + 10**15))
    reader.run(path)

    assert reader.cache is not None
    assert rows(reader.cache) == []


def damage_bytes(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)


def damage_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)


def of_a_later_version(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA user_version = 99")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [damage_bytes, damage_page, of_a_later_version, a_folder])
def test_a_damaged_cache_is_no_cache(path: Path, reader: Reader, damage: Callable[[Path], None]):
    """Digests are right, and no error reaches the user."""
    reader.run(path)
    damage(reader.cache)

    assert reader.run(path) == [sha(b"content")]
    assert reader.run(path) == [sha(b"content")]


def test_a_folder_that_cannot_be_written_is_no_cache(path: Path):
    """A state folder below a file, and none at all."""

    assert Reader(path / "state/digests.db").run(path) == [sha(b"content")]
    assert Reader(None).run(path) == [sha(b"content")]


def test_a_cache_has_a_limit(tmp_path: Path):
    """The rows that were used last stay."""
    with closing(DigestCache(tmp_path / "digests.db", max_rows=100)) as cache:
        for number in range(100):
            cache.put(b"/old", b"%d" % number, "s", "00" * 32)
        cache.save()
        with closing(sqlite3.connect(tmp_path / "digests.db")) as connection, connection:
            connection.execute("UPDATE digests SET used = CAST(CAST(name AS TEXT) AS INTEGER)")
        cache.put(b"/new", b"file", "s", "01" * 32)
        cache.save()

    assert len(rows(tmp_path / "digests.db")) == 100
    with closing(DigestCache(tmp_path / "digests.db")) as later:
        assert later.get(b"/new", b"file", "s") == "01" * 32
        assert later.get(b"/old", b"0", "s") is None
        assert later.get(b"/old", b"99", "s") == "00" * 32


def test_a_run_above_the_limit_stays_cached(tmp_path: Path):
    """As far as the limit goes, though all its rows were used at the same time."""
    with closing(DigestCache(tmp_path / "digests.db", max_rows=20)) as cache:
        for number in range(21):
            cache.put(b"/", b"%d" % number, "s", "00" * 32)
        cache.save()

    assert len(rows(tmp_path / "digests.db")) == 20


WRITER = """
import sys
from pathlib import Path
from coordinator.context.digest_cache import DigestCache
cache = DigestCache(Path(sys.argv[1]))
for round in range(int(sys.argv[3])):
    for number in range(200):
        cache.put(sys.argv[2].encode(), b"%d" % number, f"{round}", "00" * 32)
    cache.save()
    print(round, flush=True)
"""


def test_two_processes_and_a_kill(tmp_path: Path):
    """Both store what they have; one that is killed while it writes leaves a file that is read."""
    path = tmp_path / "digests.db"
    command = [sys.executable, "-c", WRITER, path]
    with (
        Child([*command, "/one", "10000"], stdout=subprocess.PIPE) as killed,
        Child([*command, "/two", "20"], stdout=subprocess.PIPE) as other,
    ):
        for _ in range(5):
            killed.line()
        killed.kill()
        killed.communicate()
        other.communicate()

    assert other.returncode == 0
    with closing(DigestCache(path)) as cache:
        assert cache.get(b"/two", b"199", "19") == "00" * 32
        assert any(cache.get(b"/one", b"199", f"{number}") for number in range(10_000))


async def test_a_run_reads_a_file_once(tmp_path: Path):
    """For all its platforms: a log that grows between two scans is the same in both, under all its names."""
    log = tmp_path / "log"
    log.write_text("one\n")
    os.link(log, tmp_path / "other-name")
    digests = FileDigests()

    first = await scan(tmp_path, ALL, digests=digests)
    with log.open("a") as file:
        file.write("two\n")
    second = await scan(tmp_path, ALL, digests=digests)

    assert first == second
    assert {entry.digest for entry in first.entries} == {sha(b"one\n")}
    assert b"".join(ContextOffer(second).content(sha(b"one\n"))) == b"one\n"


def test_all_names_of_a_file_have_one_reading(path: Path):
    """Also where it changes between them."""
    other = path.with_name("other")
    os.link(path, other)
    digests = FileDigests()

    first = digests.read(os.fsencode(path), path.lstat(), "file", lambda _: None)
    path.write_bytes(b"CONTENT")

    assert digests.read(os.fsencode(other), other.lstat(), "other", lambda _: None) == first


def interrupted(path: Path, change: Callable[[int], None], ahead_ns: int = 0) -> str:
    """The digest of a file for which `change` is called after each piece, with the number of the piece."""
    numbers = iter(range(1000))
    digests = FileDigests(clock=lambda: time.time_ns() + ahead_ns)
    reading = digests.read(os.fsencode(path), path.lstat(), path.name, lambda _: change(next(numbers)))
    assert reading is not None
    return reading.digest


@pytest.mark.parametrize("times", [1, 1000])
def test_a_file_that_grows_while_it_is_read(tmp_path: Path, times: int):
    """It counts as it was when a second reading began; a file that grows all the time is no error."""
    path = tmp_path / "log"
    path.write_bytes(bytes(3 * BUFFER))

    def grow(number: int) -> None:
        if number < times:
            with path.open("ab") as file:
                file.write(b"more")

    assert interrupted(path, grow) == sha(bytes(3 * BUFFER) + b"more" * min(times, 3))


def test_a_file_that_is_rewritten_longer_has_not_grown(tmp_path: Path):
    """Its first bytes alone are neither the old content nor the new one."""
    path = tmp_path / "file"
    path.write_bytes(b"a" * 2 * BUFFER)
    other = b"b" * 3 * BUFFER

    assert interrupted(path, lambda number: path.write_bytes(other) and None if number == 0 else None) == sha(other)


def test_a_file_that_is_rewritten_longer_all_the_time_is_refused(tmp_path: Path):
    """No two readings begin with the same bytes."""
    path = tmp_path / "file"
    path.write_bytes(b"a" * BUFFER)

    def rewrite(number: int) -> None:
        path.write_bytes(bytes([number % 256]) * (number + 2) * BUFFER)

    with pytest.raises(UsageError, match="file changed while the context was read"):
        interrupted(path, rewrite)


def test_a_file_that_is_rewritten_once_is_read_again(tmp_path: Path):
    """In place, and cut: the digest is of one content."""
    path = tmp_path / "file"
    for content in (b"b" * 3 * BUFFER, b"b" * BUFFER):
        path.write_bytes(b"a" * 3 * BUFFER)

        def rewrite(number: int, content: bytes = content) -> None:
            if number == 1:
                path.write_bytes(content)

        assert interrupted(path, rewrite) == sha(content)


def test_a_file_that_is_rewritten_all_the_time_is_refused(tmp_path: Path):
    """There is no content that it can be said to have."""
    path = tmp_path / "database"
    path.write_bytes(bytes(2 * BUFFER))

    with pytest.raises(UsageError, match="database changed while the context was read"):
        interrupted(path, lambda number: path.write_bytes(bytes([number % 256]) * 2 * BUFFER) and None)


def test_what_is_gone_is_gone(tmp_path: Path):
    """It is not in the context, as if it had gone before the scan."""
    path = tmp_path / "file"
    path.write_text("")
    status = path.lstat()
    path.unlink()

    assert FileDigests().read(os.fsencode(path), status, "file", lambda _: None) is None
    path.mkdir()
    with pytest.raises(UsageError, match="changed"):
        FileDigests().read(os.fsencode(path), status, "file", lambda _: None)


@pytest.mark.parametrize("settled", [True, False])
def test_holes_are_not_read(tmp_path: Path, *, settled: bool):
    """300 MiB that hold three bytes; all is read of a file that has just changed, as OpenZFS may call data a hole."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(b"a")
        file.seek(100 * BUFFER)
        file.write(b"b")
        file.seek(200 * BUFFER)
        file.write(b"c")
        file.truncate(300 * BUFFER)
    dense = hashlib.sha256()
    for byte in (b"a", b"b", b"c"):
        dense.update(byte + bytes(100 * BUFFER - 1))
    # Its time of change (`st_ctime`) is recent all the same.
    os.utime(path, ns=(0, 0))
    before = disk_reads()

    ahead_ns = SETTLED_NS + 1_000_000_000 if settled else SETTLED_NS // 2
    assert interrupted(path, lambda _: None, ahead_ns) == dense.hexdigest()
    assert (disk_reads() - before < 10 * BUFFER) is settled


def disk_reads() -> int:
    """Bytes that this process has read from files, cached or not."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])
