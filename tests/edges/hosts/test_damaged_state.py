"""Files of the agent's state that are not what they should be: the next run goes well, and all is as it was before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agents.base.trees import remove_tree
from coordinator.hosts.agent.replies import EndState
from tests.edges.hosts.agent_bed import agent, begin, follow, places

JOB, NEXT, LAST = "7f3a-arm64-1", "7f3a-arm64-2", "7f3a-arm64-3"


def _as(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        make(path)

    return replace


_OTHER = b'{"format": "x", "bytes": [], "pid": {}, "state": 7, "objects": 3, "folders": 1, "ids": null}'
_DAMAGES: dict[str, Callable[[Path], object]] = {
    "NULs": lambda path: path.write_bytes(bytes(max(1, path.stat().st_size))),
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "rubbish": lambda path: path.write_bytes(b"\xff\xfe{[" * 20),
    "deep JSON": lambda path: path.write_bytes(b"[" * 200_000),
    "other JSON": lambda path: path.write_bytes(_OTHER),
    "folders": _as(lambda path: (path / "inner").mkdir(parents=True)),
    "links": _as(lambda path: path.symlink_to("nowhere/at/all")),
}


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with places(tmp_path, monkeypatch):
        yield


async def _state(tmp_path: Path) -> Path:
    """The state after a job has been built, and is not forgotten yet."""
    async with agent() as client:
        await begin(client, JOB, ("log", "hello"))
        await follow(client, JOB)
    [state] = (tmp_path / "state" / "archloom-agent").iterdir()
    return state


def _own_files(state: Path) -> list[Path]:
    """The agent's own files: without the content of the context, which a build may read."""
    contexts = {path for path in state.glob("contexts/*/*/*") if path.name.startswith(path.parts[-3])}
    files = [Path(parent, name) for parent, _, names in os.walk(state) for name in names]
    return [path for path in files if not contexts.intersection(path.parents)]


async def _runs_well() -> None:
    """A run that finds the damage clears up and builds; the next one finds nothing."""
    async with agent() as client:
        await client.jobs()
        await begin(client, NEXT, ("log", "hello"))
        said, ended = await follow(client, NEXT)
        assert (said, ended.state) == ("hello", EndState.BUILT)
        await client.forget(JOB)
        await client.forget(NEXT)
    async with agent() as client:
        assert await client.jobs() == ()
        await begin(client, LAST, ("log", "hello"))
        assert (await follow(client, LAST))[1].state == EndState.BUILT


@pytest.mark.parametrize("damage", _DAMAGES)
async def test_damaged_files_are_replaced(tmp_path: Path, damage: str):
    """All of the agent's own files at once, as after a power cut on a disk that loses what was not flushed."""
    for path in _own_files(await _state(tmp_path)):
        _DAMAGES[damage](path)

    await _runs_well()

    # The job's name is what is left of its spec.
    assert "archloom/7f3a:arm64-1" in (tmp_path / "discarded").read_text()


@pytest.mark.parametrize(
    "name", ["jobs", "contexts", "contexts/[0-9]*", "contexts/[0-9]*/1", "objects", "objects/folders"]
)
@pytest.mark.parametrize("kind", ["file", "link"])
async def test_a_file_in_place_of_a_folder_is_replaced(tmp_path: Path, name: str, kind: str):
    """A person, or fsck, may have left one."""
    [path] = (await _state(tmp_path)).glob(name)
    _as(Path.touch if kind == "file" else (lambda place: place.symlink_to("nowhere/at/all")))(path)

    await _runs_well() if name != "jobs" else await _state(tmp_path)


def test_a_tree_that_is_too_deep_for_a_path_is_removed(tmp_path: Path):
    """A path has at most 4096 bytes; an older agent made deeper trees, folder by folder."""
    top = tmp_path / "tree"
    top.mkdir()
    at = os.open(top, os.O_RDONLY)
    for _ in range(60):
        os.mkdir("d" * 200, dir_fd=at)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.fchmod(at, 0)
    os.close(at)

    remove_tree(top)

    assert not top.exists()
