"""A small context in one request of the control channel: as exact as on a channel of its own, and no process more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.context import unreadable
from agents.context.tree_objects import Below, File
from coordinator.context.offer import is_closed
from coordinator.domain.inputs.build_id import ContextEntry, EntryKind
from coordinator.errors import LostError
from coordinator.hosts.agent.context import MissingFiles
from tests.edges.agents.transfer_bed import seen
from tests.edges.hosts.agent_bed import agent, places
from tests.edges.hosts.test_agent_context import job, nothing, offered, random_tree


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with places(tmp_path, monkeypatch):
        yield


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32))
def test_any_small_tree_arrives_as_it_is(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, seed: int):
    root = tmp_path_factory.mktemp("tree")
    random_tree(root, seed, sizes=(0, 1, 100, 1000))

    async def run() -> None:
        async with agent() as client:
            folder, offer = await job(client, f"a-{seed}"), await offered(root)
            objects = offer.enclosed()
            assert objects is not None
            received = await client.send_enclosed(f"a-{seed}", offer, objects, nothing)
            assert seen(folder / "context") == seen(root)
            assert received.entries == len(seen(root))
            await client.forget(f"a-{seed}")

    asyncio.run(run())


async def test_how_much_a_host_lacks_is_told(tmp_path: Path):
    root, told = tmp_path / "tree", []
    (root / "src").mkdir(parents=True)
    (root / "src" / "a").write_text("one")
    (root / "b").write_text("two and")
    async with agent() as client:
        for name in ("a-1", "b-1", "c-1"):
            await job(client, name)
            offer = await offered(root)
            received = await client.send_enclosed(name, offer, offer.enclosed() or {}, told.append)
            told.append(received.received)
            (root / "b").write_text("changed")

    assert told == [MissingFiles(2, 2, 10), 10, MissingFiles(1, 2, 7), 7, MissingFiles(0, 2, 0), 0]


async def test_an_object_that_is_missing_or_another_is_refused(tmp_path: Path):
    """And the job is left without a context."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "a").write_text("one")
    async with agent() as client:
        folder, offer = await job(client, "a-1"), await offered(root)
        objects = offer.enclosed() or {}
        file = next(digest for digest in objects if offer.file_size(digest))
        for wrong, code in (({offer.root: objects[offer.root]}, "bad_request"), ({**objects, file: b"two"}, "changed")):
            with pytest.raises(LostError, match=f"'context' .{code}.") as caught:
                await client.send_enclosed("a-1", offer, wrong, nothing)
            assert caught.value.code == "protocol"
            assert not (folder / "context").exists()


def test_both_sides_agree_which_entries_are_closed():
    for mode in range(0o10000):
        file = File(name=b"f", mode=mode, mtime=0, size=0, digest="0" * 64)
        below = Below(name=b"d", mode=mode, mtime=0, digest="0" * 64)
        for there, kind in ((file, EntryKind.FILE), (below, EntryKind.DIRECTORY)):
            assert unreadable.is_closed(there) == is_closed(ContextEntry(path="x", kind=kind, mode=mode))


async def test_a_large_context_and_a_closed_one_go_over_a_channel_of_their_own(tmp_path: Path):
    """A larger one costs only what the host lacks there, and how closed files are read is tried by that process."""
    root = tmp_path / "tree"
    (root / "below").mkdir(parents=True)
    (root / "a").write_bytes(bytes(65_000))
    assert (await offered(root)).enclosed() is not None

    (root / "below").chmod(0o444)
    assert (await offered(root)).enclosed() is None
    (root / "below").chmod(0o755)
    (root / "a").chmod(0o200)
    assert (await offered(root)).enclosed() is None
    (root / "a").chmod(0o400)
    (root / "b").write_bytes(b"x" * 1000)
    assert (await offered(root)).enclosed() is None
