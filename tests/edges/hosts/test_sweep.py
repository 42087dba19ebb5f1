"""What a killed agent or a power cut leaves in the agent's folder is gone after the next run has used the host."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.server.sweep import sweep
from tests.edges.hosts.agent_bed import agent, begin, first_piece, follow, places, process_of

JOB = "7f3a-arm64-1"


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with places(tmp_path, monkeypatch):
        yield


def _tree(folder: Path) -> Path:
    (folder / "closed").mkdir(parents=True)
    (folder / "closed" / "file").write_bytes(b"x" * 1000)
    (folder / "closed").chmod(0)
    return folder


async def test_half_made_and_half_removed_folders_go(tmp_path: Path):
    """Of jobs and contexts, and files that were never renamed to their place; those being written now stay."""
    async with agent() as client:
        await begin(client, JOB, ("log", "hello"))
        await follow(client, JOB)
    [state] = (tmp_path / "state" / "archloom-agent").iterdir()
    [place] = state.glob("contexts/[0-9a-f]*/1")
    left = [
        _tree(state / "jobs" / ".new.7f3a-arm64-2.00"),
        _tree(state / "jobs" / ".gone.7f3a-arm64-3.00"),
        _tree(state / "contexts" / ".gone-00"),
        _tree(place / "staging"),
        _tree(place / "trash"),
    ]
    partials = [state / ".version.4711", state / ".clis.json.4711-123"]
    now = state / ".node-id.4712"
    for path in (*partials, now):
        path.touch()
    for path in partials:
        os.utime(path, (time.time() - 7200, time.time() - 7200))

    async with agent() as client:
        assert [entry.job for entry in await client.jobs()] == [JOB]

    assert [path for path in (*left, *partials) if path.exists()] == []
    assert now.exists()
    assert place.exists()


async def test_an_image_that_comes_late_goes(tmp_path: Path):
    """An engine finishes the last step of a build whose client was killed, and names the image when the job is gone."""
    async with agent() as client:
        folder = await begin(client, JOB, ("log", "hello\n"), ("wait", None))
        await first_piece(client, JOB)
        os.kill(process_of(folder), signal.SIGKILL)
        assert (await follow(client, JOB))[1].code == "vanished"
        await client.forget(JOB)
    image = f"archloom/test:{JOB}"
    assert _discarded(tmp_path).count([image]) == 1

    for count in (2, 3):
        async with agent() as client:
            await client.jobs()
        assert _discarded(tmp_path).count([image]) == count

    [late] = (tmp_path / "state").glob("*/*/jobs/.late.json")
    late.write_text(json.dumps({image: time.time() - 2 * 86400}))
    async with agent() as client:
        await client.jobs()
    assert json.loads(late.read_text()) == {}


def _discarded(tmp_path: Path) -> list[list[str]]:
    return [json.loads(line)[:1] for line in (tmp_path / "discarded").read_text().splitlines()]


def test_parts_of_the_agents_file_go(tmp_path: Path):
    """A connection that broke while the file was sent leaves one; versions of the agent, and what is sent now, stay."""
    state, folder = tmp_path / "state", tmp_path / "agents"
    (state / "jobs").mkdir(parents=True)
    folder.mkdir()
    names = (".archloom-agent-00ff.pyz.4711", ".archloom-agent-00ff.pyz.cpython-311-30b07f0.4711")
    kept = (".archloom-agent-00fe.pyz.4712", "archloom-agent-00ff.pyz", "archloom-agent-00ff.pyz.cpython-311-30b07f0")
    for name in (*names, *kept):
        (folder / name).touch()
    for name in (*names, *kept[1:]):
        os.utime(folder / name, (time.time() - 7200, time.time() - 7200))

    sweep(state, folder, lambda _: None, lambda: None)

    assert {path.name for path in folder.iterdir()} == set(kept)
