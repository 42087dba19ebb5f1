"""A folder of a context that has not changed is not read again, and what is known of it still counts."""

from __future__ import annotations

import hashlib
import json
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.base.errors import AgentError
from agents.context.known_states import Facts, KnownStates
from agents.context.subtrees import summary
from agents.context.tree_objects import Below, File, Folder, Link, parse
from coordinator.domain.causes import RULES, Cause, Retry
from tests.edges.agents.folders_bed import Host, Script
from tests.edges.agents.transfer_bed import MTIME, Scripted


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "state")


def tree(*other: tuple[str, bytes, int], inner: bytes = b"AAAA", group: str = "", last: bytes = b"CCCC") -> Script:
    """`d/e` has files of these two contents; beside `d` are other files, by name, content and time."""

    def script(there: Scripted) -> list[list[object]]:
        named = [[*there.file(name, inner), *([group] if group else [])] for name in ("a", "b")[: 2 if group else 1]]
        deep = there.below("e", *named, there.file("z", last))
        return [there.below("d", deep), *(there.file(name, content, mtime=time) for name, content, time in other)]

    return script


def count(*other: object) -> int:
    return 4 + len(other)


def object_of(host: Host, entries: list[list[object]]) -> Path:
    digest = hashlib.sha256(json.dumps({"entries": entries}).encode()).hexdigest()
    return host.state / "objects/folders" / digest[:2] / digest[2:]


def test_an_unchanged_folder_is_not_read_again(host: Host):
    """Its objects are marked as used, and damage is found where one of them is read."""
    first, second = ("f", b"1", MTIME), ("f", b"2", MTIME + 1)
    folder = host.build(tree(first), count(first))
    there = Scripted()
    deep = object_of(host, [there.file("a", b"AAAA"), there.file("z", b"CCCC")])
    deep.write_bytes(b"damaged")

    assert host.build(tree(second), count(second)) == folder
    assert (deep.read_bytes(), (folder / "f").read_bytes()) == (b"damaged", b"2")
    assert (folder / "d/e/a").read_bytes() == b"AAAA"

    host.build(tree(second, inner=b"BBBBB"), count(second))
    assert (folder / "d/e/a").read_bytes() == b"BBBBB"


def test_an_object_that_the_store_has_lost_is_asked_for(host: Host):
    """Also below an unchanged folder: a later transfer compares with it."""
    first, second = ("f", b"1", MTIME), ("f", b"2", MTIME + 1)
    host.build(tree(first), count(first))
    deep = object_of(host, [Scripted().file("a", b"AAAA"), Scripted().file("z", b"CCCC")])
    deep.unlink()

    host.build(tree(second), count(second))
    assert deep.exists()


def test_new_content_that_an_unchanged_folder_has_is_a_file_of_its_own(host: Host):
    """The store has it as a link: a second one in the folder would be a hard link in the image."""
    folder = host.build(tree(), count())
    other = ("f", b"AAAA", MTIME)

    assert host.build(tree(other), count(other)) == folder
    assert (folder / "f").read_bytes() == b"AAAA"
    assert not (folder / "f").samefile(folder / "d/e/a")


def test_a_new_name_knows_what_an_unchanged_folder_holds(host: Host):
    """The engine reads all of the folder under its new name, so a change there must not fool it either."""
    first, second = ("f", b"1111", MTIME), ("f", b"2222", MTIME)
    names = [
        host.build(tree(first), count(first)),
        host.build(tree(second), count(second)),
        host.build(tree(second, inner=b"BBBB"), count(second)),
    ]
    assert len(set(names)) == 3


def test_objects_that_are_damaged_are_asked_for_in_the_next_attempt(host: Host):
    """The folder stays as it was, and the host may try again: it has dropped all of them by then."""

    def script(content: bytes) -> Script:
        return lambda there: [
            there.below("d", there.file("a", b"AAAA")),
            there.below("e", there.file("b", b"BBBB")),
            there.file("f", content),
        ]

    folder = host.build(script(b"1111"), 5)
    damaged = [object_of(host, [Scripted().file(*file)]) for file in (("a", b"AAAA"), ("b", b"BBBB"))]
    for path in damaged:
        path.write_bytes(b"damaged")

    with pytest.raises(AgentError, match="no longer in the store") as lost:
        host.build(script(b"2222"), 5)
    assert RULES[Cause(lost.value.code)].retry is Retry.ANY_HOST
    assert (folder / "f").read_bytes() == b"1111"
    assert (folder.parent / "state.json").exists()

    latest = host.build(script(b"2222"), 5)
    assert [(latest / name).read_bytes() for name in ("d/a", "e/b", "f")] == [b"AAAA", b"BBBB", b"2222"]
    assert all(path.read_bytes() != b"damaged" for path in damaged)


def test_hard_links_in_an_unchanged_folder_stay_on_record(host: Host):
    """Else the group is made anew when a file beside it changes."""
    first, second = ("f", b"1", MTIME), ("f", b"2", MTIME + 1)
    host.build(tree(first, group="d/e/a"), count(first) + 1)
    folder = host.build(tree(second, group="d/e/a"), count(second) + 1)

    assert [*json.loads((folder.parent / "state.json").read_bytes())["groups"]] == ["d/e/a"]


FILES = st.builds(File, st.binary(), st.just(0o644), st.integers(), st.just(1), st.just("a" * 64), st.binary())
LINKS = st.builds(Link, st.binary(), st.integers(), st.binary())
FOLDERS = st.builds(Below, st.binary(), st.just(0o755), st.integers(), st.just("a" * 64))


@given(st.lists(FILES), st.lists(LINKS), st.lists(FOLDERS))
def test_a_summary_counts_the_facts_that_its_entries_have(files: list[File], links: list[Link], below: list[Below]):
    """Else the facts that are left out count wrong, and a folder gets another name too early or too late."""
    facts = Facts(coarse=False)
    entries: list[File | Link | Below] = [*files, *links, *below]
    for entry in entries:
        facts.add((), entry)

    assert summary(Folder(files, links, below, [])).facts == len(list(facts.pairs()))


def test_facts_that_are_left_out_count(tmp_path: Path):
    """A folder gets another name where most facts on record are those of paths that are long gone."""
    path, facts = tmp_path / "known", Facts(coarse=False)
    path.write_bytes(array("Q", range(60_000)).tobytes())
    assert not KnownStates(path).admits(facts)
    facts.left_out = 3_000
    assert KnownStates(path).admits(facts)


@pytest.mark.parametrize(
    ("entry", "is_plain"),
    [
        (["file", "f", 0o400, MTIME, 1, "a" * 64], True),
        (["file", "f", 0o244, MTIME, 1, "a" * 64], False),
        (["file", "f", 0o644, MTIME, 1, "a" * 64, "f"], False),
        (["folder", "f", 0o500, MTIME, "a" * 64], True),
        (["folder", "f", 0o600, MTIME, "a" * 64], False),
    ],
)
def test_a_folder_with_closed_entries_or_hard_links_is_read(entry: list[object], is_plain: object):
    """Whether a login may open them is decided anew for each job."""
    assert summary(parse(json.dumps({"entries": [entry]}).encode())).is_plain is is_plain


@pytest.mark.parametrize("announced", [-1, 1])
def test_entries_that_are_not_read_are_counted(host: Host, announced: int):
    """An offer must say how many entries it has."""
    host.build(tree(), count())
    with pytest.raises(AgentError, match="entries"):
        host.build(tree(), count() + announced)
