"""A context's objects: the same context, the same objects; a small change, few new ones."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.inputs.build_id import ContextEntry, EntryKind
from coordinator.domain.inputs.merkle_tree import ContextObjects, context_objects
from tests.services.paths import CASES

WIRE = CASES / "wire"
NAMES = st.binary(min_size=1, max_size=8).map(
    lambda name: name.replace(b"/", b"-").replace(b"\0", b"0").decode("utf-8", "surrogateescape")
)
D = hashlib.sha256(b"").hexdigest()


def file(path: str, content: str = "") -> ContextEntry:
    digest = hashlib.sha256(content.encode()).hexdigest()
    return ContextEntry(path=path, kind=EntryKind.FILE, mode=0o644, size=len(content), mtime_ns=7, digest=digest)


def folder(path: str) -> ContextEntry:
    return ContextEntry(path=path, kind=EntryKind.DIRECTORY, mode=0o755, mtime_ns=-1)


def named_twice(path: str) -> ContextEntry:
    return replace(file(path, "shared"), hard_link="a/first\udcff")


def link(path: str) -> ContextEntry:
    return ContextEntry(path=path, kind=EntryKind.SYMLINK, mode=0o777, mtime_ns=1, link="\udcff/x")


@st.composite
def contexts(draw: st.DrawFn) -> list[ContextEntry]:
    """Entries below folders that are among them."""
    entries = {"": folder("")}
    folders = [""]
    for name in draw(st.lists(NAMES, max_size=20)):
        above = draw(st.sampled_from(folders))
        path = f"{above}/{name}" if above else name
        entry = draw(st.sampled_from([file, named_twice, folder, link]))(path)
        if entries.setdefault(path, entry) is entry and entry.kind is EntryKind.DIRECTORY:
            folders.append(path)
    del entries[""]
    return list(entries.values())


def read(objects: ContextObjects, digest: str, above: str = "") -> Iterable[ContextEntry]:
    """The entries that the objects stand for, each object held against its name."""
    data = objects.folders[digest]
    assert hashlib.sha256(data).hexdigest() == digest
    content = json.loads(data)
    for part in content.get("parts", ()):
        yield from read(objects, part, above)
    for kind, name, *values in content.get("entries", ()):
        path = above + name
        match kind, values:
            case "file", [mode, mtime, size, found, *group]:
                entry = ContextEntry(path=path, kind=EntryKind.FILE, mode=mode, size=size, mtime_ns=mtime, digest=found)
                yield replace(entry, hard_link="".join(group))
            case "link", [mtime, target]:
                yield ContextEntry(path=path, kind=EntryKind.SYMLINK, mode=0o777, mtime_ns=mtime, link=target)
            case "folder", [mode, mtime, found]:
                yield ContextEntry(path=path, kind=EntryKind.DIRECTORY, mode=mode, mtime_ns=mtime)
                yield from read(objects, found, f"{path}/")


@given(contexts(), st.randoms())
def test_objects_say_all_that_is_in_a_context(entries: list[ContextEntry], order: random.Random) -> None:
    """Whatever the names and the order; what is read from them is the context again."""
    objects = context_objects(entries)
    shuffled = list(entries)
    order.shuffle(shuffled)

    assert context_objects(shuffled) == objects
    assert sorted(read(objects, objects.root), key=lambda entry: entry.path) == sorted(
        entries, key=lambda entry: entry.path
    )


@pytest.mark.parametrize("count", [1, 128, 129, 1000, 20_000])
def test_large_folders_are_cut(count: int) -> None:
    """No object has more than 256 entries or parts, and all of them are reached."""
    entries = [file(f"f{number}") for number in range(count)]
    objects = context_objects(entries)

    sizes = [len(next(iter(json.loads(data).values()))) for data in objects.folders.values()]
    assert max(sizes) <= 256
    assert len(list(read(objects, objects.root))) == count
    assert (len(sizes) == 1) is (count <= 128)


def new(before: ContextObjects, after: ContextObjects) -> Mapping[str, bytes]:
    return {digest: data for digest, data in after.folders.items() if digest not in before.folders}


@pytest.mark.parametrize("position", [0, 5000, 9999])
@pytest.mark.parametrize("change", ["changed", "removed", "added"])
def test_one_change_in_a_large_folder_is_few_objects(position: int, change: str) -> None:
    """Of 10 000 entries in one folder, one part and the way to it: never all parts behind the change."""
    entries = [file(f"{number:05}", str(number)) for number in range(10_000)]
    before = context_objects(entries)
    changed = {
        "changed": [replace(entries[position], digest=D)],
        "removed": [],
        "added": [entries[position], file(f"{position:05}-new")],
    }[change]

    found = new(before, context_objects([*entries[:position], *changed, *entries[position + 1 :]]))

    # A part may be cut in two, or joined with the next.
    assert 1 <= len(found) <= 5
    assert sum(map(len, found.values())) < 0.1 * sum(map(len, before.folders.values()))


def test_an_entry_is_in_a_folder_of_the_context() -> None:
    """A context without the folder of an entry is a defect of who made it."""
    for entries in ([file("a/b")], [file("a"), file("a/b")], [folder("a"), folder("a/b/c")]):
        with pytest.raises(ValueError, match="in no folder"):
            context_objects(entries)


def test_the_golden_objects_are_made() -> None:
    """Both sides' tests read this file: the root first, then what is below it."""
    objects = context_objects(GOLDEN)
    lines = (WIRE / "folders.jsonl").read_bytes().splitlines()

    assert lines[0] == objects.folders[objects.root]
    assert sorted(lines) == sorted(objects.folders.values())


def test_the_golden_hard_links_are_made() -> None:
    """Two names of one file in two folders, and the same content in a file of its own."""
    group = [replace(file(path, "shared"), hard_link="a") for path in ("a", "src/b\udcff")]
    objects = context_objects([*group, file("c", "shared"), folder("src")])
    lines = (WIRE / "hard_links.jsonl").read_bytes().splitlines()

    assert lines[0] == objects.folders[objects.root]
    assert sorted(lines) == sorted(objects.folders.values())


GOLDEN = [
    replace(folder("src"), mtime_ns=1763930000_123456789),
    replace(file("src/run", "#!/bin/sh\n"), mode=0o755),
    file("zero"),
    replace(link("ümlaut"), link="not\udcffutf8"),
]
