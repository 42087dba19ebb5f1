"""The folder that an engine reads: changed in place from job to job, and under a new name where it would be fooled."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agents.base import process, state
from agents.base.errors import AgentError
from agents.context.cache import Objects
from agents.context.folders import leased
from agents.context.receive import receive_empty
from agents.context.transfer import EMPTY
from tests.edges.agents.folders_bed import KEY, Host, Script, below, end, file, pair
from tests.edges.agents.login_bed import home_of_nobody, ordinary_login
from tests.edges.agents.transfer_bed import MTIME, Scripted, arrive, seen, sha

# A tree by name: a folder (mode and entries), a file (content, mode, mtime, hard link) or a link (target).
Node = tuple
SPEC = {
    "format": 1, "platform": "linux/amd64", "engine": "docker", "dockerfile": "FROM scratch", "stage": "",
    "dockerfile_path": "Dockerfile", "dockerfile_apart": True, "build_args": {}, "labels": {}, "no_cache": False,
    "image": "archloom/7f3a:amd64-1", "bases": [], "context_key": KEY, "has_context": True, "limits": {},
}  # fmt: skip


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


FILES = st.tuples(
    st.just("file"),
    st.sampled_from([b"", b"AAAA", b"BBBB", b"other"]),
    st.sampled_from([0o644, 0o755, 0o000, 0o444]),
    st.sampled_from([MTIME, MTIME + 1, 7]),
    st.sampled_from(["", "", "", "one", "two"]),
)
LINKS = st.tuples(st.just("link"), st.sampled_from(["a", "/etc"]), st.sampled_from([MTIME, 7]))
NAMES = st.sampled_from(["a", "b", "c", "ü", "d\udcff"])


def folders(below: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    entries = st.dictionaries(NAMES, below, max_size=4)
    return st.tuples(st.just("folder"), st.sampled_from([0o755, 0o700, 0o555, 0o311]), entries)


TREES = st.dictionaries(NAMES, st.recursive(FILES | LINKS, folders, max_leaves=12), max_size=5)


def offered(there: Scripted, tree: dict[str, Node]) -> tuple[list[list[object]], int]:
    """The entries of a folder, and the number of all entries below it. Members of a group are the first of it."""
    first: dict[str, tuple[object, ...]] = {}

    def entry(name: str, node: Node) -> tuple[list[object], int]:
        if node[0] == "link":
            return ["link", name, node[2], node[1]], 1
        if node[0] == "folder":
            below = [entry(*item) for item in sorted(node[2].items())]
            digest = there.folder(*(one for one, _ in below))
            return ["folder", name, node[1], MTIME, digest], 1 + sum(count for _, count in below)
        _, content, mode, mtime, group = node
        if group:
            content, mode, mtime = first.setdefault(group, (content, mode, mtime))
        return [*there.file(name, content, mode, mtime), *([group] if group else [])], 1

    entries = [entry(*item) for item in sorted(tree.items())]
    return [one for one, _ in entries], sum(count for _, count in entries)


def linked(root: Path) -> set[frozenset[str]]:
    """The groups of names below that are one file."""
    names: dict[int, set[str]] = {}
    for parent, _, files in os.walk(root):
        for name in files:
            path = Path(parent, name)
            if not path.is_symlink():
                names.setdefault(path.stat().st_ino, set()).add(str(path.relative_to(root)))
    return {frozenset(group) for group in names.values() if len(group) > 1}


def groups(tree: dict[str, Node], where: str = "") -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, node in tree.items():
        if node[0] == "folder":
            for group, names in groups(node[2], f"{where}{name}/").items():
                found.setdefault(group, set()).update(names)
        elif node[0] == "file" and node[4]:
            found.setdefault(node[4], set()).add(where + name)
    return found


def send_all(tmp_path: Path, trees: list[dict[str, Node]], login: Callable[[], AbstractContextManager[None]]) -> None:
    """One context after the other to this login; each is compared with one made anew."""
    host = Host(tmp_path / "host")
    for number, tree in enumerate(trees):
        there = Scripted()
        entries, count = offered(there, tree)
        with login():
            job = host.job()
            # The closed ones are read in a user namespace: as an archive, the folder would be made anew each time.
            (job / "spec.json").write_text(json.dumps(SPEC))
            folder = host.send(job, there, there.folder(*entries), count)
            end(job)

        expected = tmp_path / f"expected-{number}"
        arrive(there, there.folder(*entries), count, tmp_path / f"state-{number}", expected)

        assert seen(folder) == seen(expected)
        assert linked(folder) == {frozenset(names) for names in groups(tree).values() if len(names) > 1}
        if number == 1:
            shutil.rmtree(host.state / "objects/folders")
    assert len(list(host.state.glob(f"contexts/{KEY}/*"))) == 1
    assert not list(host.state.glob(f"contexts/{KEY}/1/staging/*"))


@given(st.lists(TREES, min_size=2, max_size=4))
def test_a_folder_that_is_changed_is_as_one_made_anew(tmp_path_factory: pytest.TempPathFactory, trees):
    """Whatever came before, also where the store has lost what the folder was made of; links are links, no others."""
    send_all(tmp_path_factory.mktemp("host"), trees, nullcontext)


@given(st.lists(TREES, min_size=2, max_size=4))
@settings(max_examples=25)
@example([{"a": ("folder", 0o555, {"b": ("folder", 0o311, {})})}, {"a": ("folder", 0o555, {})}])
@example([{"a": ("folder", 0o311, {"b": ("link", "a", 7)})}, {"a": ("file", b"", 0o644, 7, "one")}])
@example([{"a": ("folder", 0o311, {})}, {"a": ("folder", 0o755, {})}])
@example(
    [{"a": ("folder", 0o311, {"b": ("folder", 0o311, {})})}, {"a": ("folder", 0o311, {"b": ("folder", 0o755, {})})}]
)
def test_modes_do_not_keep_a_login_from_changing_its_folder(trees):
    """Root may do anything; any other user must be allowed to write to a folder that it moves."""
    with home_of_nobody() as home:
        send_all(home, trees, ordinary_login)


FOOLED = [
    (file(b"AAAA"), file(b"BBBB"), 1),
    (below(0o755), below(0o700), 2),
    (below(0o755, b"AAAA"), below(0o755, b"BBBB"), 2),
    (pair("", ""), pair("a", "a"), 2),
    (pair("a", "a"), pair("", ""), 2),
    (lambda _: [["link", "l", MTIME, "x"]], lambda _: [["link", "l", MTIME, "y"]], 1),
    (lambda _: [["link", "f", MTIME, "AAAA"]], file(b"AAAA"), 1),
]


@pytest.mark.parametrize(("one", "other", "count"), FOOLED)
def test_a_folder_gets_a_new_name_where_an_engine_would_be_fooled(host: Host, one: Script, other: Script, count: int):
    """Size, time, mode and owner are all that BuildKit compares, and of folders not even the mode."""
    first, second = host.build(one, count), host.build(other, count)

    assert first.name != second.name
    assert [path.name for path in second.parent.iterdir() if path.name.startswith(KEY)] == [second.name]


SEEN_BY_ENGINES = [
    (file(b"AAAA"), file(b"AAAAA"), 1),
    (file(b"AAAA"), file(b"BBBB", mtime=MTIME + 1), 1),
    (file(b"AAAA"), file(b"BBBB", mode=0o600), 1),
    (file(b"AAAA"), file(b"AAAA", mtime=7), 1),
    (file(b"AAAA"), file(b"BBBB", name="g"), 1),
    (lambda _: [["link", "l", MTIME, "x"]], lambda _: [["link", "l", MTIME + 1, "y"]], 1),
    (below(0o755, b"AAAA"), below(0o755, b"AAAAA"), 2),
]


@pytest.mark.parametrize(("one", "other", "count"), SEEN_BY_ENGINES)
def test_a_folder_keeps_its_name_where_an_engine_sees_the_change(host: Host, one: Script, other: Script, count: int):
    """The engine then reads only what changed. Back to what there was is no risk either."""
    assert len({host.build(script, count).name for script in (one, other, one, other, one)}) == 1


def test_a_state_of_long_ago_still_counts(host: Host):
    """An engine may hold any state that the name ever had, not only the last."""
    names = [host.build(file(content, mtime=mtime)).name for content, mtime in ((b"AAAA", 1), (b"CCCC", 2))]
    assert names[0] == names[1]
    assert host.build(file(b"BBBB", mtime=1)).name != names[0]


def test_what_did_not_change_is_not_touched(host: Host):
    """Neither files nor their folders are made anew."""
    first = host.build(lambda there: [there.below("d", there.file("f"), there.file("g")), there.file("h", b"A")], 4)
    before = {path: path.stat().st_ctime_ns for path in first.rglob("*")}
    second = host.build(lambda there: [there.below("d", there.file("f"), there.file("g")), there.file("h", b"BB")], 4)
    after = {path: path.stat().st_ctime_ns for path in second.rglob("*")}

    assert [path.name for path in before if before[path] != after[path]] == ["h"]


def test_new_times_copy_nothing(host: Host):
    """A fresh clone has other times for all files: they are set."""
    first = (host.build(file()) / "f").stat().st_ino
    assert (host.build(file(mtime=7)) / "f").stat().st_ino == first
    assert host.build(file(mtime=8), key="f" * 32).joinpath("f").stat().st_ino != first


def test_times_of_another_folder_stay_as_they_are(host: Host):
    """Two platforms' folders share their files, also where the store has evicted them."""
    other = host.build(file(), key="f" * 32)
    before = seen(other)
    host.build(file())
    shutil.rmtree(host.state / "objects" / state.boot_id())

    assert seen(host.build(file(mtime=7))) == {"f": ("file", 0o644, 7, b"AAAA")}
    assert seen(other) == before


def test_two_jobs_at_once_have_a_folder_each(host: Host):
    """The second does not wait, and both folders stay for later."""
    there, jobs = Scripted(), [host.job(), host.job()]
    root = there.folder(there.file("f"))
    first, second = (host.send(job, there, root, 1) for job in jobs)

    assert first != second
    assert first.name != second.name
    end(jobs[1])
    assert host.build(file()) == second
    end(jobs[0])
    assert host.build(file()) == first


def test_a_dead_jobs_folder_is_free(host: Host):
    """Death is decided by the process; a job that is forgotten has no folder either."""
    there, job = Scripted(), host.job()
    (job / "spec.json").write_text("{}")
    first = host.send(job, there, there.folder(there.file("f")), 1)
    process.write(job, process.Process(1, 1, "of an earlier boot", 0))
    assert host.build(file()) == first

    forgotten = host.job()
    assert host.send(forgotten, there, there.folder(there.file("f")), 1) == first
    shutil.rmtree(forgotten)
    assert host.build(file()) == first


def test_a_job_that_gets_its_context_again_keeps_its_folder(host: Host):
    there, job = Scripted(), host.job()
    roots = [there.folder(there.file("f", content)) for content in (b"A", b"BB")]
    assert host.send(job, there, roots[0], 1) == host.send(job, there, roots[1], 1)
    assert (job / "context/f").read_bytes() == b"BB"


def test_a_transfer_that_outlives_its_job_keeps_the_folder(host: Host):
    """Its connection is gone and its job forgotten, but it still writes."""
    job = host.job()
    with leased(host.state, KEY, job) as first:
        shutil.rmtree(job)
        other = host.build(file())
    assert other.parent != first.path.parent


def restart(host: Host) -> None:
    """As after a restart of the machine: every record is of another boot."""
    for path in host.state.glob("contexts/*/*/*.json"):
        path.write_text(path.read_text().replace(state.boot_id(), str(uuid4())))


def test_after_a_restart_everything_is_made_anew(host: Host):
    """A power cut may have damaged the folder, and what is known of it."""
    first = host.build(file())
    restart(host)
    (first / "f").unlink()

    second = host.build(file())

    assert seen(second) == {"f": ("file", 0o644, MTIME, b"AAAA")}
    assert second.name != first.name
    assert not first.exists()


def test_an_empty_context_needs_no_transfer(host: Host):
    """Its folder is one like others."""
    full = host.build(file())
    job = host.job()
    objects = Objects(host.state)
    receive_empty(job, KEY, objects)
    objects.close()

    assert (job / "context").resolve() == full
    assert list(full.iterdir()) == []
    assert sha(b'{"entries":[]}') == EMPTY


def test_a_client_of_every_job_has_the_same_id(host: Host):
    """The id by which an engine knows it, where docker and buildx look for it."""
    jobs = [host.build(file()) and host.state / f"jobs/job-{number}" for number in (1, 2)]
    ids = {(job / name).read_text() for job in jobs for name in ("docker/.buildNodeID", "docker/buildx/.buildNodeID")}
    assert [len(one) for one in ids] == [64]
    assert Host(host.state / "another").build(file())
    assert (host.state / "another/node-id").read_text() not in ids


def test_a_started_job_keeps_its_context(host: Host):
    """Nothing is changed under a build."""
    there, job = Scripted(), host.job()
    folder = host.send(job, there, there.folder(there.file("f")), 1)
    process.write(job, process.current(0))
    with pytest.raises(AgentError) as refused:
        host.send(job, there, there.folder(there.file("f", b"other")), 1)
    assert refused.value.code == "started"
    assert (folder / "f").read_bytes() == b"x"
    assert json.loads((folder.parent / "state.json").read_text())["name"] == folder.name
