"""Archives over bulk channels: real processes of the agent, and what no cut or refusal may look like."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from coordinator.errors import LostError
from coordinator.hosts.agent.replies import BasesLoaded, HeldImage
from tests.edges.hosts.agent_bed import SPEC, agent, chunks, places, ready

HELD = SPEC["bases"][0]["name"]
LONG = "x" * 700_000


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with places(tmp_path, monkeypatch):
        yield


async def taken(client, job: str) -> tuple[HeldImage | bytes, bytes]:
    async with aclosing(client.image(job)) as items:
        held = await anext(items)
        return held, b"".join([item async for item in items])


async def test_an_image_comes_whole():
    """Which image it is, then every byte of it, whatever its pieces and its bytes look like."""
    said = ["begin", LONG, "\narchloom-agent {}\n0\n", "end"]
    async with agent() as client:
        await ready(client, "a-1", *(("say", text) for text in said))

        assert await taken(client, "a-1") == (HeldImage(image_id="sha256:1", size=7), "".join(said).encode())


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ([("refuse", "not_built")], "not_built"),
        ([("say", LONG), ("refuse", "engine")], "engine"),
        ([("say", LONG), ("fill", None)], "disk"),
        ([("break", "no idea")], "internal"),
    ],
)
async def test_what_goes_wrong_is_said_at_any_time(steps, code):
    """Before the first byte or in the middle: the agent's own error, and no end."""
    async with agent() as client:
        await ready(client, "a-1", *steps)

        with pytest.raises(LostError) as lost:
            await taken(client, "a-1")

        assert lost.value.code == code


async def test_an_agent_that_dies_sends_no_image():
    """A process that ends in the middle, as when a connection is cut, has not sent a whole one."""
    dying = 'import sys, os; os.write(1, b\'\\narchloom-agent {"ok": {"image_id": "i", "size": 9}}\\n{}\')'
    ends = {
        b"": "cut",
        b"5\nab": "cut",
        b"2\nab": "cut",
        b"2\nab\n": "cut",
        b"zz\n": "protocol",
        b"fffffff\n": "protocol",
    }
    for rest, code in ends.items():
        script = dying.replace("{}')", "')") + f"; os.write(1, {rest!r})"
        with pytest.raises(LostError) as lost:
            await first_of(script)
        assert lost.value.code == code, rest


async def first_of(script: str) -> None:
    from coordinator.hosts.agent.archives import image
    from coordinator.hosts.agent.local import LocalTransport

    transport = LocalTransport((sys.executable, "-c", script))
    try:
        async with aclosing(image(transport, "a-1")) as items:
            async for _ in items:
                pass
    finally:
        await transport.close()


async def test_an_image_that_nobody_wants_any_more_is_not_sent_to_its_end():
    """Leaving early ends the agent's process, which has far more to say."""
    async with agent() as client:
        await ready(client, "a-1", ("say_for_ever", None))

        async with asyncio.timeout(20), aclosing(client.image("a-1")) as items:
            await anext(items)
            await anext(items)


async def test_bases_are_loaded_and_counted():
    """What is lacking is asked on the control channel; every byte of the archive arrives."""
    async with agent() as client:
        await ready(client, "a-1")

        assert await client.lacking("a-1") == (HELD,)
        assert await client.load("a-1", chunks(b"z" * 3_000_001, 2_000_000)) == BasesLoaded(loaded=3_000_001, kept=0)


async def test_a_refused_load_is_the_agent_s_word(tmp_path: Path):
    """An engine that says no, a job that is not there."""
    async with agent() as client:
        await ready(client, "a-1")
        for job, code in (("a-1", "base"), ("b-1", "unknown_job")):
            with pytest.raises(LostError) as lost:
                await client.load(job, chunks(b"refuse"))
            assert lost.value.code == code


async def test_a_load_that_is_cut_loads_nothing():
    """A source that breaks in the middle, and a stream that ends without its end."""

    async def breaking():
        yield b"some"
        raise LostError("the registry broke off", code="registry")

    async with agent() as client:
        await ready(client, "a-1")
        with pytest.raises(LostError, match="broke off"):
            await client.load("a-1", breaking())


@pytest.mark.parametrize(
    ("sent", "code"), [(b"", "cut"), (b"4\nabc", "cut"), (b"3", "cut"), (b"4 abc\n", "bad_request")]
)
async def test_a_load_without_its_end_is_cut(sent, code):
    """What the coordinator did not finish is refused by the agent, whole pieces or not."""
    async with agent() as client:
        await ready(client, "a-1")
        channel = await client._transport.open_bulk(("load", "a-1"))
        channel.writer.write(b"2\nab\n"[:-1] + sent)
        channel.writer.write_eof()
        answer = (await channel.reader.read(-1)).decode()
        assert (await channel.close()).exit_status == 1
        assert f'"code": "{code}"' in answer


async def test_bases_of_a_job_forgotten_meanwhile_are_dropped(tmp_path: Path):
    """They were loaded for nobody; those that another job names stay."""
    async with agent() as client:
        folder = await ready(client, "a-1")
        await client.load("a-1", chunks(f"forget {folder}".encode()))
        assert HELD in (tmp_path / "discarded").read_text()

        (tmp_path / "discarded").unlink()
        folder = await ready(client, "a-2")
        await ready(client, "a-3")
        await client.load("a-2", chunks(f"forget {folder}".encode()))
        assert HELD not in (tmp_path / "discarded").read_text()
