"""A context arrives whole, as it was offered, and inside its folder; or not at all."""

from __future__ import annotations

import io
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.base.errors import AgentError
from agents.context.cache import Objects
from agents.context.receive import receive
from tests.edges.agents.transfer_bed import MTIME, Scripted, arrive, seen, sha

Script = Callable[[Scripted], list[list[object]]]


def refuse(tmp_path: Path, root: str, entries: int, coordinator: Scripted) -> AgentError:
    with pytest.raises(AgentError) as refused:
        arrive(coordinator, root, entries, tmp_path / "state", tmp_path / "context")
    return refused.value


@pytest.mark.parametrize("packed", [True, False])
def test_files_folders_and_links_arrive_as_they_were(tmp_path: Path, *, packed: bool):
    """Contents, modes and mtimes to the nanosecond are kept, also below a folder that may not be written."""
    there = Scripted(packed=packed)
    root = there.folder(
        there.below("closed", there.file("run.sh", b"#!/bin/sh\n", 0o4755), mode=0o555),
        there.below("empty", mode=0o750),
        ["link", "link", -1, "/etc/passwd"],
        there.file("secret", b"s", 0),
        there.file("zero", b""),
    )

    received = arrive(there, root, 6, tmp_path / "state", tmp_path / "context")

    assert received == (6, 11, 3, 11)
    assert seen(tmp_path / "context") == {
        "closed": ("folder", 0o555, MTIME, ""),
        "closed/run.sh": ("file", 0o4755, MTIME, b"#!/bin/sh\n"),
        "empty": ("folder", 0o750, MTIME, ""),
        "link": ("link", 0o777, -1, "/etc/passwd"),
        "secret": ("file", 0, MTIME, b"s"),
        "zero": ("file", 0o644, MTIME, b""),
    }
    assert [asked["want"] for asked in there.asked] == ["folders", "folders", "files"]


NAMES = ["ü ñ.txt", "new\nline", "bad\udcff\udcfe", "-rf", " ", "quote'\"", "x" * 255, "a\\b", "*", "~"]


def test_odd_names_arrive_as_bytes(tmp_path: Path):
    """A name is whatever bytes the sender's file system had; so is what a link says."""
    there = Scripted()
    links = [["link", f"{name[:200]}-link", 0, name] for name in NAMES]
    root = there.folder(*(there.file(name) for name in NAMES), *links)

    arrive(there, root, 2 * len(NAMES), tmp_path / "state", tmp_path / "context")

    names = {os.fsencode(path.name) for path in (tmp_path / "context").iterdir()}
    assert names >= {name.encode("utf-8", "surrogateescape") for name in NAMES}
    assert (tmp_path / "context" / os.fsdecode(b"bad\xff\xfe-link")).readlink() == Path(os.fsdecode(b"bad\xff\xfe"))


def test_a_deep_tree_arrives(tmp_path: Path):
    """A level is a question."""
    there = Scripted()
    entry = there.file("bottom")
    for _ in range(300):
        entry = there.below("d" * 9, entry)

    assert arrive(there, there.folder(entry), 301, tmp_path / "state", tmp_path / "context").entries == 301
    assert len(there.asked) == 302


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "../outside", "a\0b", "\ud83d", "x" * 256, 7, None, []])
@pytest.mark.parametrize("kind", ["file", "below", "link"])
def test_a_name_is_one_name(tmp_path: Path, kind: str, name: object):
    """What leads elsewhere, or is no name, is refused; nothing is made outside."""
    there = Scripted()
    entry = ["link", name, 0, "x"] if kind == "link" else getattr(there, kind)(name)

    assert refuse(tmp_path, there.folder(entry), 1, there).code == "bad_request"
    assert {path.name for path in tmp_path.iterdir()} == {"context", "state"}
    assert list((tmp_path / "context").iterdir()) == []


TWICE: list[tuple[int, Script]] = [
    (2, lambda there: [there.file("a"), there.file("a", b"y")]),
    (2, lambda there: [there.file("a"), there.file("a", b"x", 0o600)]),
    (2, lambda there: [["link", "door", 0, ".."], there.file("door")]),
    (3, lambda there: [["link", "door", 0, ".."], there.below("door", there.file("outside"))]),
    (3, lambda there: [there.below("door", there.file("outside")), ["link", "door", 0, ".."]]),
    (4, lambda there: [there.below("a", there.file("b")), there.below("a", there.file("b"))]),
    (2, lambda _: [["link", "a", 0, "x"], ["link", "a", 0, "y"]]),
    (2, lambda there: [there.below("a"), there.file("a")]),
]


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(("count", "script"), TWICE)
def test_a_name_is_there_once(tmp_path: Path, script: Script, count: int, *, known: bool):
    """Nothing is replaced, and nothing goes through a link of its name, wherever that points."""
    there = Scripted()
    entries = script(there)
    (tmp_path / "outside").write_bytes(b"untouched")
    job = tmp_path / "jobs/a"
    job.mkdir(parents=True)
    objects = Objects(tmp_path)
    if known:
        there.offer(there.folder(*entries[:1]), count - 1 if count == 3 and entries[0][0] == "folder" else count // 2)
        receive(job, "0" * 32, there, there.say, objects)

    # As many as there are, so that it is not the number which is refused.
    there.offer(there.folder(*entries), count)
    with pytest.raises(AgentError) as refused:
        receive(job, "0" * 32, there, there.say, objects)
    objects.close()

    assert (refused.value.code, "twice" in refused.value.message) == ("bad_request", True)
    assert (tmp_path / "outside").read_bytes() == b"untouched"


D = "0" * 64


@pytest.mark.parametrize(
    "entry",
    [
        ["device", "a", 0, 0], ["fifo", "a"], [], "file", 7, None, ["file", "a", 0, 0, 0], ["folder", "a", 0, 0],
        ["file", "a", -1, 0, 0, D], ["file", "a", 0o10000, 0, 0, D], ["file", "a", True, 0, 0, D],
        ["file", "a", "644", 0, 0, D], ["file", "a", 0, 1 << 71, 0, D], ["file", "a", 0, 1.5, 0, D],
        ["file", "a", 0, 0, -1, D], ["file", "a", 0, 0, 1 << 63, D], ["file", "a", 0, 0, 0, "../" + D[3:]],
        ["file", "a", 0, 0, 0, D[1:]], ["file", "a", 0, 0, 0, D.replace("0", "G")], ["file", "a", 0, 0, 0, None],
        ["folder", "a", 0, 0, "x"], ["link", "a", 0, ""], ["link", "a", 0, "a\0b"], ["link", "a", 0, "x" * 4096],
        ["link", "a", 0, 7],
    ],
)  # fmt: skip
def test_an_entry_is_a_file_a_folder_or_a_link(tmp_path: Path, entry: object):
    """Anything else is refused, and named where it has a name."""
    there = Scripted()

    refused = refuse(tmp_path, there.content(json.dumps({"entries": [entry]}).encode()), 1, there)

    assert refused.code == "bad_request"


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b"7", b'{"parts": [1]}', b'{"parts": 1}', b'{"entries": 7}', b"[" * 100_000]
)
def test_a_folder_that_is_none_is_refused(tmp_path: Path, data: bytes):
    """A right digest does not make it one."""
    there = Scripted()

    assert refuse(tmp_path, there.content(data), 1, there).code == "bad_request"


@pytest.mark.parametrize("offer", [(D, -1), (D, "1"), (D, True), ("x", 1), (None, 1), (7, 1)])
def test_an_offer_is_a_digest_and_a_count(tmp_path: Path, offer: tuple[object, object]):
    """The first line is believed no more than the rest."""
    there = Scripted()
    with pytest.raises(AgentError) as refused:
        arrive(there, *offer, tmp_path / "state", tmp_path / "context")
    assert (refused.value.code, there.asked) == ("bad_request", [])


def test_few_objects_cannot_stand_for_endless_folders(tmp_path: Path):
    """More entries than were said end the transfer."""
    there = Scripted()
    entries: list[list[object]] = []
    for _ in range(30):
        entries = [there.below("a", *entries), there.below("b", *entries)]

    refused = refuse(tmp_path, there.folder(*entries), 1000, there)

    assert "more than the 1000 announced entries" in refused.message


def test_all_entries_that_were_said_come(tmp_path: Path):
    """A context with fewer is none."""
    there = Scripted()
    assert "1 entries, not 2" in refuse(tmp_path, there.folder(there.file("a")), 2, there).message


@pytest.mark.parametrize("kind", ["other", "longer", "shorter", "other folder"])
def test_what_is_not_what_was_offered_is_called_changed(tmp_path: Path, kind: str):
    """No object is taken for another, and none of it stays in the store."""
    there = Scripted()
    entry = there.file("a", b"offered")
    root = there.folder(entry)
    wrong = {"other": b"0ffered", "longer": b"offered!", "shorter": b"offer", "other folder": b'{"entries": []}'}[kind]
    digest = root if kind == "other folder" else sha(b"offered")
    there.objects[digest] = wrong

    assert refuse(tmp_path, root, 1, there).code == "changed"
    assert not list((tmp_path / "state").rglob(digest[2:]))


def test_one_content_has_one_size(tmp_path: Path):
    """Two files that say the same digest and other sizes are refused."""
    there = Scripted()
    liar = ["file", "b", 0o644, 0, 2, sha(b"x")]
    assert refuse(tmp_path, there.folder(there.file("a", b"x"), liar), 2, there).code == "bad_request"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"?", "bad_request"), (b"=100001\n", "bad_request"), (b"=-1\n", "bad_request"),
        (b"=" + b"1" * 20, "bad_request"), (b"z5\nhello0\n", "bad_request"),
        (b"", "cut"), (b"=", "cut"), (b"=5", "cut"), (b"=5\nhell", "cut"), (b"=1\nx", "cut"),
    ],
)  # fmt: skip
def test_a_body_that_is_none_is_refused(tmp_path: Path, body: bytes, code: str):
    """Unknown forms, huge pieces, what does not unpack; and what ends too early."""

    class Odd(Scripted):
        def body(self, data: bytes) -> bytes:
            return body if data == b"x" else super().body(data)

    there = Odd()
    assert refuse(tmp_path, there.folder(there.file("a")), 1, there).code == code


def test_what_unpacks_without_end_is_stopped(tmp_path: Path):
    """A megabyte that would become a gigabyte costs no memory and no disk."""
    there = Scripted()
    root = there.folder(there.file("a", b"x"))
    there.objects[sha(b"x")] = bytes(1 << 28)
    tracemalloc.start()
    try:
        refused = refuse(tmp_path, root, 1, there)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert refused.code == "changed"
    assert peak < 4 << 20


def whole(limit: int | None = None) -> tuple[Scripted, str]:
    there = Scripted(limit=limit, packed=False)
    entries = [there.file("a", b"x" * 700), there.below("b", there.file("c" * 200, b"y"), ["link", "l", 0, "t"])]
    return there, there.folder(*entries, there.file("d", b"z" * 300))


def length() -> int:
    there, root = whole()
    with TemporaryDirectory() as folder:
        arrive(there, root, 5, Path(folder, "state"), Path(folder, "context"))
    return there.sent


@given(st.integers(0, length() - 1))
def test_a_cut_transfer_leaves_the_context_there_was(tmp_path_factory: pytest.TempPathFactory, cut: int):
    """Wherever the stream ends nothing becomes of it, what had come is not sent again, and the next try succeeds."""
    job = tmp_path_factory.mktemp("job")
    objects = Objects(job.parent / f"{job.name}-state")
    before = Scripted()
    before.offer(before.folder(before.file("before")), 1)
    receive(job, "0" * 32, before, before.say, objects)
    there, root = whole(cut)
    there.offer(root, 5)

    with pytest.raises(AgentError) as refused:
        receive(job, "0" * 32, there, there.say, objects)

    assert refused.value.code == "cut"
    assert [path.name for path in (job / "context").iterdir()] == ["before"]
    again, root = whole()
    again.offer(root, 5)
    received = receive(job, "0" * 32, again, again.say, objects)
    objects.close()
    assert (received.entries, received.bytes) == (5, 1001)
    # Twice its own head, and once everything else but what was under way: at most the largest file.
    assert again.sent <= length() - max(0, cut - 1500)
    assert sorted(path.name for path in (job / "context").rglob("*")) == ["a", "b", "c" * 200, "d", "l"]


def test_memory_does_not_grow_with_the_context(tmp_path: Path):
    """A file is never in memory as a whole."""

    class Endless(Scripted):
        """40 files of 1 MiB, each made while it is read."""

        def __init__(self) -> None:
            super().__init__(packed=False)
            self._rest: list[str] = []

        def say(self, said) -> None:
            if said["want"] == "folders":
                super().say(said)
            else:
                self._rest += said["digests"]

        def read(self, size: int = -1) -> bytes:
            if self._rest and self._waiting.tell() == len(self._waiting.getbuffer()):
                data = bytes([numbers[self._rest.pop(0)]]) * (1 << 16)
                self._waiting = io.BytesIO(b"=" + b"%x\n%b" % (len(data), data) * 16 + b"0\n")
            return super().read(size)

    numbers = {sha(bytes([number]) * (1 << 20)): number for number in range(40)}
    there = Endless()
    entries = [["file", f"f{number}", 0o644, MTIME, 1 << 20, digest] for digest, number in numbers.items()]
    root = there.folder(*entries)
    tracemalloc.start()
    try:
        received = arrive(there, root, 40, tmp_path / "state", tmp_path / "context")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert received == (40, 40 << 20, 40, 40 << 20)
    assert peak < 4 << 20
