"""The coordinator's calls to a real agent, and what becomes of them when the channel does not last."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import aclosing, suppress
from pathlib import Path

import pytest

from coordinator.domain.causes import Retry, rule
from coordinator.domain.image.platforms import parse
from coordinator.errors import LostError, UsageError
from coordinator.hosts.agent.client import connect
from coordinator.hosts.agent.error_codes import HostBusyError
from coordinator.hosts.agent.local import LocalTransport
from coordinator.hosts.agent.replies import (
    BasesHeld,
    ContextReceived,
    Ended,
    EndState,
    JobEntry,
    LogText,
    Pushed,
)
from tests.edges.hosts.agent_bed import (
    HERE,
    REQUESTS,
    SPEC,
    STAND_IN,
    agent,
    begin,
    first_piece,
    follow,
    is_running,
    oldest_python,
    places,
    process_of,
    ready,
    send,
)


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with places(tmp_path, monkeypatch):
        yield


@pytest.mark.parametrize("python", sorted({sys.executable, oldest_python()}))
async def test_a_job_from_its_context_to_its_push(tmp_path: Path, python: str):
    """Everything a run asks of a host, in order, on this Python and the oldest at hand."""
    job, told = "7f3a-armv7-1", []
    async with agent(python, STAND_IN) as client:
        assert await client.probe() == {"cores": 4}
        await client.create(job, {**SPEC, "dockerfile": '[["log", "#1 hello\\n#1 DONE"]]'})
        assert await send(client, job, a=b"123", b=b"4567") == ContextReceived(entries=2, bytes=7, files=2, received=7)
        assert await client.pull(job, 40001, "s", told.append) == BasesHeld(pulled=1, kept=0)
        begun = await client.start(job, "test", 1)
        async with aclosing(client.follow(job, 3)) as pieces:
            *texts, ended = [piece async for piece in pieces]
        assert texts == [LogText(log="hello\n", offset=9), LogText(log="#1 DONE", offset=16)]
        assert ended == Ended(
            state=EndState.BUILT, seconds=ended.seconds, log_size=16, image_id="sha256:1",
            platform=parse("linux/arm/v7"), size=7,
        )  # fmt: skip
        assert await client.start(job, "test", 1) == begun
        pushed = await client.push(job, 40001, "r", "t", "s", lambda *counts: told.append(counts))
        assert pushed == Pushed(digest="sha256:r:t", size=2)
        (entry,) = await client.jobs()
        assert entry == JobEntry(job=job, state="BUILT", since=entry.since)
        await client.forget(job)
        assert await client.jobs() == ()

    assert told == ["pulling 1 through 40001", (1, 2)]
    assert json.loads((tmp_path / "discarded").read_text()) == [SPEC["image"], SPEC["bases"][0]["name"]]
    assert not is_running(begun.pid)


async def test_requests_and_replies_are_the_golden_ones(tmp_path: Path):
    """The client's requests are the golden file's bytes, and it understands the golden replies."""
    kept, job, told = tmp_path / "kept", "7f3a-armv7-1", []
    async with agent(sys.executable, f"{HERE}/replaying_agent.py", str(kept)) as client:
        assert client.hello.parent == 4709
        assert (await client.probe())["cores"] == 4
        await client.create(job, SPEC)
        assert await client.pull(job, 40001, "s3cret", told.append) == BasesHeld(pulled=1, kept=0)
        with pytest.raises(HostBusyError, match="host 'local': slots 0 to 1"):
            await client.start(job, f"alice@beast {job}", 2)
        text, ended = await follow(client, job, 18)
        assert (text, ended.size) == ("#5 [2/3] RUN make\n#5 0.31 ü\ufffd\n", 1234567)
        tag = "archloom-0123456789abcdef-armv7"
        with pytest.raises(LostError, match="denied") as refused:
            await client.push(job, 40002, "7f3a/armv7", tag, "s3cret", lambda *counts: told.append(counts))
        assert (await client.cancel(job)).code == "vanished"
        await client.forget(job)
        assert (await client.jobs())[0].since == 1763930000.25
        assert await client.lacking(job) == (SPEC["bases"][0]["name"],)
        assert await client.prune(20_000_000_000) == 3_200_000_000

    assert kept.read_bytes() == REQUESTS
    assert refused.value.code == "refused"
    assert told == ["base0: 3 of 5 layers", (1048576, 4194304)]


async def test_requests_do_not_wait_for_each_other():
    """A follow that has nothing to tell, and a pull that hangs, delay nobody."""
    async with agent() as client:
        await begin(client, "a-1", ("wait", None))
        following = asyncio.create_task(follow(client, "a-1"))
        pulling = asyncio.create_task(client.pull("a-1", 1, "hang", lambda _: None))
        assert await asyncio.gather(*(client.probe() for _ in range(20))) == [{"cores": 4}] * 20
        cancelled = await client.cancel("a-1")
        with pytest.raises(LostError, match="pull was cancelled"):
            await pulling
        assert await following == ("", cancelled)

    assert cancelled.state is EndState.CANCELLED


async def test_a_caller_that_leaves_disturbs_nobody():
    """A cancelled call and a follow that is left leave the channel as good as it was."""
    async with agent() as client:
        await begin(client, "a-1", ("log", "line\n"), ("wait", None))
        assert await first_piece(client, "a-1") == LogText(log="line\n", offset=5)
        pulling = asyncio.create_task(client.pull("a-1", 1, "hang", lambda _: pulling.cancel()))
        with pytest.raises(asyncio.CancelledError):
            await pulling
        assert (await client.cancel("a-1")).state is EndState.CANCELLED


async def test_a_lost_channel_ends_every_call():
    """When the agent is gone every call says so, those under way and those to come."""
    async with agent() as client:
        await begin(client, "a-1", ("wait", None))
        calls = [
            asyncio.create_task(follow(client, "a-1")),
            asyncio.create_task(client.pull("a-1", 1, "hang", lambda _: os.kill(client.hello.pid, signal.SIGKILL))),
        ]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert client.lost
        with pytest.raises(LostError) as later:
            await client.jobs()

    assert [type(error) for error in done] == [LostError, LostError]
    assert {error.code for error in [*done, later.value]} == {"connection"}
    assert later.value.message == "host 'local': the agent is gone (exit status -9)"


async def test_a_job_outlives_the_agent_that_started_it(tmp_path: Path):
    """After a lost channel the next one finds the job running, and its log where the last one stopped."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    async with agent() as client:
        await begin(client, "a-1", ("log", "one\n"), ("reach", str(fifo)), ("log", "two\n"))
        first = await first_piece(client, "a-1")
        os.kill(client.hello.pid, signal.SIGKILL)

    async with agent() as client:
        assert [entry.state for entry in await client.jobs()] == ["BUILDING"]
        following = asyncio.create_task(follow(client, "a-1", first.offset))
        await asyncio.to_thread(fifo.read_bytes)
        text, ended = await following

    assert (first.text, text, ended.state) == ("one\n", "two\n", EndState.BUILT)


async def test_closing_ends_what_the_channel_carries():
    """A pull ends with its channel, the agent with its stdin, and the job goes on."""
    async with agent() as client:
        await begin(client, "a-1", ("wait", None))
        started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        pulling = asyncio.create_task(client.pull("a-1", 1, "hang", started.set_result))
        await started
        await client.close()
        with pytest.raises(LostError):
            await pulling
        assert not is_running(client.hello.pid)

    async with agent() as client:
        assert [entry.state for entry in await client.jobs()] == ["BUILDING"]


async def test_what_a_login_shell_prints_is_skipped():
    """Noise before the greeting is no matter, on either channel, even without a line's end."""
    noisy = 'echo Welcome to pi5; echo "$TERM: unknown"; printf "no end"; exec "$@"'
    async with agent("sh", "-c", noisy, "sh", sys.executable, STAND_IN) as client:
        await ready(client, "a-1")
        assert [entry.state for entry in await client.jobs()] == ["SENDING"]


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ((sys.executable, "-c", "import sys; sys.exit('no home here')"), "agent", "does not start: no home here"),
        (("/nowhere/python3",), "agent", "cannot run /nowhere/python3: No such file"),
        (("sh", "-c", "exit 7"), "agent", "exit status 7"),
        (("sh", "-c", """echo 'archloom-agent {"protocol": 2}'; cat"""), "protocol", "speaks protocol 2, expected 1"),
        (("sh", "-c", "echo 'archloom-agent {'; cat"), "protocol", "not JSON"),
        (("yes",), "protocol", "unexpected output instead of the agent's reply"),
    ],
)
async def test_an_agent_that_does_not_come_up_is_told_plainly(command: tuple[str, ...], code: str, message: str):
    """Whatever answers in place of an agent, the error says what it was."""
    with pytest.raises(LostError, match=message) as lost:
        async with agent(*command):
            pass
    assert lost.value.code == code


async def test_the_agent_names_what_it_cannot_do():
    """Unknown operations, missing parameters and broken lines get `bad_request`, and the channel goes on."""
    transport = LocalTransport((sys.executable, STAND_IN))
    channel = await transport.open_control()
    requests = [
        b'{"id": 1, "op": "fly"}', b'{"id": 2, "op": "start", "job": "a-1", "holder": "x"}', b"nonsense",
        b'{"id": 3, "op": "follow", "job": "nobody", "offset": 0}', b'{"id": 4, "op": "forget", "job": "nobody"}',
    ]  # fmt: skip
    channel.writer.write(b"\n".join(requests) + b"\n")
    channel.writer.write_eof()
    lines = (await channel.reader.read()).splitlines()
    await transport.close()

    found = {frame["id"]: frame for frame in map(json.loads, lines[2:])}
    codes = {number: frame.get("error", {}).get("code") for number, frame in found.items()}
    assert codes == {1: "bad_request", 2: "bad_request", None: "bad_request", 3: "unknown_job", 4: None}
    assert "slots is None" in found[2]["error"]["message"]


async def test_a_job_with_another_spec_is_lost():
    """A coordinator that was upgraded resumes a run, and would ask for the job in other words: it gets another try."""
    async with agent() as client:
        await ready(client, "a-1")
        with pytest.raises(LostError, match="another spec") as refused:
            await client.create("a-1", {**SPEC, "stage": "other"})
    assert rule(refused.value.code).retry is Retry.ANY_HOST


async def test_a_spec_that_no_frame_can_hold_is_refused_here():
    """The user is told, and the channel is not spoiled for others."""
    async with agent() as client:
        with pytest.raises(UsageError, match="more than 1048576"):
            await client.create("a-1", {**SPEC, "dockerfile": "#" * (1 << 20)})
        assert await client.jobs() == ()


async def test_connect_can_be_cancelled():
    """A host that never greets can be given up, and nothing stays."""
    transport = LocalTransport(("sh", "-c", "exec cat"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await connect(transport)
    await transport.close()


async def test_the_tunnel_serves_until_it_is_closed():
    """Each connection to the port is served here; closing ends listening and serving."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()

    transport = LocalTransport((sys.executable, STAND_IN))
    tunnel = await transport.listen(echo)
    connections = [await asyncio.open_connection("127.0.0.1", tunnel.port) for _ in range(3)]
    for reader, writer in connections:
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
    await transport.close()

    for reader, writer in connections:
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", tunnel.port)


async def test_a_flood_in_a_log_takes_little_memory(tmp_path: Path):
    """200 MB, written as fast as a build can: neither the agent nor the job's process holds more than a piece of it."""
    async with agent() as client:
        folder = await begin(client, "a-1", ("flood", 3200))
        job = process_of(folder)
        before, of_job = _peak(client.hello.pid), _peak(job)
        size = 0
        async with aclosing(client.follow("a-1", 0)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Ended):
                    break
                size += len(piece.text)
                of_job = max(of_job, _peak(job) or of_job)
        assert size == 3200 * 65536
        assert _peak(client.hello.pid) < min(before + 4_000, 25_000)
        assert of_job < 25_000


def _peak(pid: int) -> int:
    """The most memory that the process has had, in kB; 0 where it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0
