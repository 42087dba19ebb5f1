"""Detached jobs and contexts on a host: what ends them, what holds a slot, what a full disk does."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agents.job.cancel import cancel
from coordinator.errors import ArchloomError, LostError
from coordinator.hosts.agent.error_codes import HostBusyError
from coordinator.hosts.agent.replies import EndState
from tests.edges.hosts.agent_bed import agent, begin, first_piece, follow, is_running, places, process_of, ready, send
from tests.services.commands import run_limited
from tests.services.missing import missing


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with places(tmp_path, monkeypatch):
        yield


async def test_a_killed_job_is_found_dead_and_its_slot_is_free():
    """A job killed from outside is lost as `vanished`, for everybody who asks, and the next one may start."""
    async with agent() as client, agent() as other:
        folder = await begin(client, "a-1", ("log", "begun\nhalf a line"), ("wait", None))
        await first_piece(client, "a-1")
        following = [asyncio.create_task(follow(one, "a-1")) for one in (client, other)]
        os.kill(process_of(folder), signal.SIGKILL)
        ends = await asyncio.gather(*following)
        await begin(client, "b-1")
        assert (await follow(client, "b-1"))[1].state is EndState.BUILT

    assert ends[0] == ends[1]
    text, ended = ends[0]
    assert (text, ended.state, ended.code, ended.log_size) == ("begun\nhalf a line", EndState.LOST, "vanished", 17)


async def test_a_held_slot_is_answered_at_once():
    """The second job on one slot hears who holds it; with a second slot it runs; queues are not the host's."""
    async with agent() as client:
        await begin(client, "a-1", ("wait", None))
        await ready(client, "b-1", ("wait", None))
        with pytest.raises(HostBusyError) as busy:
            await client.start("b-1", "test b-1", 1)
        assert busy.value.holder == "test a-1"
        assert (await client.start("b-1", "test b-1", 2)).slot == 1
        await client.cancel("a-1")
        await begin(client, "c-1", ("wait", None))
        assert {entry.state for entry in await client.jobs()} == {"CANCELLED", "BUILDING"}


async def test_what_a_job_runs_does_not_hold_its_slot(tmp_path: Path):
    """A program that outlives a killed job keeps no slot, and is ended by whoever finds the job dead."""
    note = tmp_path / "note"
    async with agent() as client:
        folder = await begin(client, "a-1", ("spawn", str(note)), ("log", "spawned\n"), ("wait", None))
        await first_piece(client, "a-1")
    # An agent that still followed the job would find it dead at once.
    child = int(note.read_text())
    job = os.pidfd_open(process_of(folder))
    os.kill(process_of(folder), signal.SIGKILL)
    await asyncio.to_thread(wait_for_end, job)
    assert is_running(child)
    async with agent() as client:
        await begin(client, "b-1")
        assert (await follow(client, "a-1"))[1].code == "vanished"
        await asyncio.to_thread(until_gone, child)


def wait_for_end(pidfd: int) -> None:
    ended, _, _ = select.select([pidfd], [], [], 60)
    os.close(pidfd)
    assert ended


def until_gone(pid: int) -> None:
    if is_running(pid):
        wait_for_end(os.pidfd_open(pid))


async def test_a_job_leaves_nothing_running(tmp_path: Path):
    """What the engine's driver left behind ends with the job."""
    note = tmp_path / "note"
    async with agent() as client:
        await begin(client, "a-1", ("spawn", str(note)))
        assert (await follow(client, "a-1"))[1].state is EndState.BUILT
        await asyncio.to_thread(until_gone, int(note.read_text()))


async def test_starting_again_starts_nothing():
    """However often, and by how many at once, a job is started: it is one process."""
    async with agent() as client, agent() as other:
        await ready(client, "a-1", ("wait", None))
        begun = await asyncio.gather(*(one.start("a-1", "test", 4) for one in (client, other) * 4))
        assert len(set(begun)) == 1
        await client.cancel("a-1")
        assert await client.start("a-1", "test", 4) == begun[0]


@pytest.mark.parametrize(
    ("step", "state", "code", "message"),
    [
        (("fail", "exit code: 2"), EndState.FAILED, "build", "exit code: 2"),
        (("fail", "long " * 2000), EndState.FAILED, "build", "long long"),
        (("fill", None), EndState.LOST, "disk", "too little space below"),
        (("refuse", "emulator"), EndState.LOST, "emulator", "the engine said no"),
        (("break", "division"), EndState.LOST, "internal", "ZeroDivisionError: division"),
    ],
)
async def test_every_end_has_a_result(step: tuple[str, object], state: EndState, code: str, message: str):
    """Whatever a driver does, the job ends with a result that says what it was; no traceback is told."""
    async with agent() as client:
        await begin(client, "a-1", step)
        text, ended = await follow(client, "a-1")

    assert (text, ended.state, ended.code) == ("", state, code)
    assert ended.message.startswith(message)


async def test_cancel_ends_a_job_and_says_so_again(tmp_path: Path):
    """A cancelled job ends as CANCELLED, also for who asks later; and the host forgets it whole."""
    async with agent() as client:
        folder = await begin(client, "a-1", ("wait", None))
        pid = process_of(folder)
        ended = await client.cancel("a-1")
        assert ended.state is EndState.CANCELLED
        assert await client.cancel("a-1") == ended
        assert await follow(client, "a-1") == ("", ended)
        await client.forget("a-1")
        await client.forget("a-1")
        assert not folder.exists()
        with pytest.raises(LostError, match="no job"):
            await client.cancel("a-1")
        await asyncio.to_thread(until_gone, pid)


async def test_forgetting_a_running_job_ends_it():
    """A job is never left running without its folder."""
    async with agent() as client:
        folder = await begin(client, "a-1", ("wait", None))
        pid = process_of(folder)
        await client.forget("a-1")
        await asyncio.to_thread(until_gone, pid)


async def test_nobody_waits_for_a_job_to_clean_up(tmp_path: Path):
    """Its result, its slot and its folder are free, and what it started is gone; the clean-up is done to the end."""
    fifo, note = tmp_path / "fifo", tmp_path / "note"
    os.mkfifo(fifo)
    async with agent() as client:
        steps = (("spawn", str(note)), ("be_slow_to_clean_up", str(fifo)), ("log", "begun\n"), ("wait", None))
        folder = await begin(client, "a-1", *steps)
        await first_piece(client, "a-1")
        assert (await client.cancel("a-1")).state is EndState.CANCELLED
        for pid in (process_of(folder), int(note.read_text())):
            await asyncio.to_thread(until_gone, pid)
        await client.forget("a-1")
        await begin(client, "b-1")
        assert (await follow(client, "b-1"))[1].state is EndState.BUILT
    assert written(fifo, within=60.0) == b"cleaned up"


@pytest.mark.parametrize("state", ["BUILT", "FAILED"])
async def test_only_a_cancelled_job_is_cleaned_up(tmp_path: Path, state: str):
    """What was built is there for whoever pushes it; what failed has left no image."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    ending = [("fail", "exit code: 2")] if state == "FAILED" else []
    async with agent() as client:
        folder = await begin(client, "a-1", ("be_slow_to_clean_up", str(fifo)), *ending)
        assert (await follow(client, "a-1"))[1].state is EndState[state]
        assert (await client.cancel("a-1")).state is EndState[state]
        await asyncio.to_thread(until_gone, process_of(folder))
    assert written(fifo, within=1.0) == b""


def written(fifo: Path, within: float) -> bytes:
    """What somebody writes into it; empty where nobody does in that many seconds."""
    end = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(end, 100) if select.select([end], [], [], within)[0] else b""
    finally:
        os.close(end)


async def test_a_job_that_does_not_want_to_end_is_killed(tmp_path: Path):
    """Patience with a cancelled job has an end."""
    async with agent() as client:
        folder = await begin(client, "a-1", ("be_stubborn", None), ("wait", None))
        ended = await asyncio.to_thread(cancel, folder, 0.1)

    assert ended["state"] == "CANCELLED"
    assert not is_running(process_of(folder))


async def test_a_job_without_its_context_does_not_start():
    """What is built is what was sent."""
    async with agent() as client:
        await ready(client, "a-1")
        job = Path(client.hello.state, "jobs", "a-1")
        (job / "context").rename(job / "context.old")
        with pytest.raises(LostError) as refused:
            await client.start("a-1", "test", 1)
    assert refused.value.code == "no_context"


@contextmanager
def small_disk(folder: Path):
    """A file system of 1 MiB at `folder`; unmounted afterwards."""
    folder.mkdir()
    mounted = run_limited(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True)
    if mounted.returncode:
        missing("the right to mount a small file system")
    try:
        yield
    finally:
        run_limited(["umount", "--lazy", folder], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


async def test_a_full_disk_is_told_apart(tmp_path: Path):
    """A context that does not fit is refused with what is free, takes its place back, and a smaller one fits."""
    with small_disk(tmp_path / "state"):
        async with agent() as client:
            folder = await ready(client, "a-1")
            with pytest.raises(LostError, match=r"too little space below .*: 0 MiB free") as full:
                await send(client, "a-1", file=bytes(2 << 20))
            assert full.value.code == "disk"
            assert "prune" in full.value.hint
            await send(client, "a-1", file=bytes(700_000))
            assert (folder / "context/file").stat().st_size == 700_000


async def test_an_agent_that_cannot_start_for_want_of_space_names_its_folder(tmp_path: Path):
    """Not the system's words alone, which do not say where."""
    with small_disk(tmp_path / "state"):
        fill(tmp_path / "state/fill")
        with pytest.raises(LostError, match=f"does not start: .*too little space below {tmp_path / 'state'}/.*: 0 MiB"):
            async with agent():
                pass


async def test_a_job_on_a_full_disk_still_ends_with_a_result(tmp_path: Path):
    """Room for the last word is taken at the start, so that a log which fills the disk is an end like any other."""
    with small_disk(tmp_path / "state"):
        async with agent() as client:
            folder = await begin(client, "a-1", ("flood", 20))
            text, ended = await follow(client, "a-1")
            assert (ended.state, ended.code) == (EndState.LOST, "disk")
            assert len(text) == ended.log_size
            assert json.loads((folder / "result.json").read_text())["code"] == "disk"
            fill(tmp_path / "state" / "filler")
            with pytest.raises(LostError) as full:
                await ready(client, "b-1")
            assert full.value.code == "disk"
            await client.forget("a-1")
            await ready(client, "b-1")


async def test_a_job_killed_on_a_full_disk_is_settled_all_the_same(tmp_path: Path):
    """Whoever finds it dead uses the room that was kept for it."""
    with small_disk(tmp_path / "state"):
        async with agent() as client:
            folder = await begin(client, "a-1", ("wait", None))
            fill(tmp_path / "state" / "filler")
            os.kill(process_of(folder), signal.SIGKILL)
            assert (await follow(client, "a-1"))[1].code == "vanished"
            assert json.loads((folder / "result.json").read_text())["code"] == "vanished"


async def test_a_build_cache_is_pruned_when_no_job_runs():
    """What a build under way is about to use stays. A budget of nothing is refused: to docker it is no limit."""
    async with agent() as client:
        assert await client.prune(1000) == 500
        await begin(client, "a-1", ("wait", None))
        assert await client.prune(1000) == 0
        with pytest.raises(ArchloomError, match="budget is 0"):
            await client.prune(0)
        await client.forget("a-1")


async def test_a_jobs_process_is_forked_and_has_nothing_of_the_channel():
    """No program is started for it; stdin, stdout and stderr of the channel, and the fork server's socket, stay out."""
    async with agent() as client:
        folder = await begin(client, "a-1", ("wait", None))
        job = process_of(folder)
        assert command(job) == command(client.hello.pid)
        open_files = {int(path.name): str(path.readlink()) for path in Path(f"/proc/{job}/fd").iterdir()}
        assert [open_files[fd] for fd in range(3)] == [os.devnull, os.devnull, str(folder / "trace")]
        assert [name for name in open_files.values() if name.startswith("socket:")] == []
        shared = {str(path.readlink()) for path in Path(f"/proc/{client.hello.pid}/fd").iterdir()}
        assert {name for name in open_files.values() if name.startswith("pipe:")} & shared == set()
        assert os.getsid(job) == job


async def test_without_its_fork_server_an_agent_starts_a_program():
    """Whatever has killed the fork server: a job that comes later runs as one before."""
    async with agent() as client:
        await begin(client, "a-1")
        assert (await follow(client, "a-1"))[1].state is EndState.BUILT
        for child in children(client.hello.pid):
            os.kill(child, signal.SIGKILL)
            await asyncio.to_thread(until_gone, child)
        folder = await begin(client, "b-1", ("wait", None))
        assert b"job" in command(process_of(folder))


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL, None])
async def test_the_fork_server_ends_with_its_agent(end: signal.Signals | None):
    async with agent() as client:
        children_before = children(client.hello.pid)
        assert len(children_before) == 1
        if end is not None:
            os.kill(client.hello.pid, end)
    for child in children_before:
        await asyncio.to_thread(until_gone, child)


def command(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
