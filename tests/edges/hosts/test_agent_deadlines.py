"""How long each request waits for the agent, and what is known of a host meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest

from coordinator import deadlines
from coordinator.errors import LostError
from coordinator.hosts.agent.client import AgentClient, connect
from coordinator.hosts.agent.frames import Incoming, send
from coordinator.hosts.agent.replies import Ended
from tests.edges.hosts.test_agent_reading import HELLO, Wire
from tests.services.paths import CASES

Ask = Callable[[AgentClient], Coroutine[Any, Any, object]]
ASKS: dict[str, Ask] = {
    "probe": lambda client: client.probe(),
    "create": lambda client: client.create("a-1", {}),
    "lacking": lambda client: client.lacking("a-1"),
    "start": lambda client: client.start("a-1", "me", 1),
    "jobs": lambda client: client.jobs(),
    "hang_up": lambda client: client.hang_up(client.hello),
    "cancel": lambda client: client.cancel("a-1"),
    "forget": lambda client: client.forget("a-1"),
}


class SetClock(asyncio.SelectorEventLoop):
    """A loop whose time only the test moves on."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    def passes(self, seconds: float, each: Callable[[], object] = lambda: None) -> None:
        """Let this time pass, half a second after the other; `each` is called after each."""
        for _ in range(round(seconds * 2)):
            self.now += 0.5
            self.settle()
            each()
            self.settle()

    def settle(self) -> None:
        for _ in range(12):
            self.run_until_complete(asyncio.sleep(0))

    def ends(self, work: Awaitable[object]) -> object:
        async def within() -> object:
            async with asyncio.timeout(1):  # of a time that stands still: only what can go on does
                return await work

        return self.run_until_complete(within())


@pytest.fixture
def clock() -> Iterator[SetClock]:
    loop = SetClock()
    yield loop
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.settle()
    loop.close()


def opened(clock: SetClock) -> tuple[Wire, AgentClient]:
    wire = clock.run_until_complete(_wire())
    wire.reader.feed_data(HELLO)
    client = clock.ends(connect(wire))
    assert isinstance(client, AgentClient)
    return wire, client


async def _wire() -> Wire:
    return Wire()


def answer(wire: Wire, **frame: object) -> None:
    wire.reader.feed_data(json.dumps(frame).encode() + b"\n")


def requests(wire: Wire) -> list[dict[str, Any]]:
    return [json.loads(wire.written.get_nowait()) for _ in range(wire.written.qsize())]


def pong(wire: Wire, **vitals: float) -> None:
    for request in requests(wire):
        if request["op"] == "ping":
            answer(wire, id=request["id"], ok={"engine": 0.0, "disk": 0.0, **vitals})


def test_every_operation_with_a_deadline_is_here():
    """An operation without one lasts as long as its work; `context` is sent in a test of its own."""
    assert {*ASKS, "context", "purge"} == set(deadlines.ANSWER)


@pytest.mark.parametrize("op", ASKS)
def test_a_late_answer_is_a_loss(clock: SetClock, op: str):
    """It says what was asked, and for how long; the channel ends with it, but for a clean-up."""
    wire, client = opened(clock)
    asking = clock.create_task(ASKS[op](client))
    clock.passes(deadlines.ANSWER[op] - 1, lambda: pong(wire))
    assert not asking.done()
    clock.passes(1.5, lambda: pong(wire))

    with pytest.raises(LostError) as lost:
        asking.result()
    assert lost.value.code == "connection"
    assert lost.value.message == f"host 'pi5': its agent has not answered '{op}' for {deadlines.ANSWER[op]:.0f} s"
    assert client.lost is (op not in {"cancel", "forget"})


def test_a_push_goes_on_while_its_bytes_do(clock: SetClock):
    """As the broker counts them, and new progress counts too; then a minute without either is a loss."""
    wire, client = opened(clock)
    last_byte = clock.time()
    pushing = clock.create_task(client.push("a-1", 1, "r", "t", "s", lambda *_: None, lambda: last_byte))
    for _ in range(5):
        clock.passes(50, lambda: pong(wire))
        last_byte = clock.time()
    clock.passes(50, lambda: pong(wire))
    answer(wire, id=1, event={"progress": {"done": 1, "total": 2}})
    clock.passes(50, lambda: pong(wire))
    assert not pushing.done()
    answer(wire, id=1, event={"progress": {"done": 1, "total": 2}})
    clock.passes(11, lambda: pong(wire))

    with pytest.raises(LostError, match="no byte of its push has moved for 60 s"):
        pushing.result()
    assert client.lost


def test_an_engine_that_unpacks_a_base_is_at_work(clock: SetClock):
    """No byte moves meanwhile, and nothing is shown."""
    wire, client = opened(clock)
    told: list[str] = []
    pulling = clock.create_task(client.pull("a-1", 1, "s", told.append))
    for beat in range(1, 5):
        clock.passes(50, lambda: pong(wire))
        answer(wire, id=1, event={"at_work": beat})
    answer(wire, id=1, event={"progress": "base0: pulled"})
    answer(wire, id=1, ok={"pulled": 1, "kept": 0})
    clock.ends(pulling)

    assert told == ["base0: pulled"]


def test_a_build_lasts_as_long_as_the_agent_lives(clock: SetClock):
    """Its log may be silent for hours; pings are sent only while a request is open."""
    wire, client = opened(clock)
    clock.passes(60)
    assert requests(wire) == []

    following = clock.create_task(_followed(client))
    clock.passes(900, lambda: pong(wire))
    answer(wire, id=1, ok={"state": "CANCELLED", "seconds": 1.0, "log_size": 0})
    assert isinstance(clock.ends(following), Ended)
    requests(wire)
    clock.passes(60)
    assert requests(wire) == []


def test_an_agent_without_a_sign_of_life_is_lost(clock: SetClock):
    """Whatever is asked, also what has no deadline; and what is asked next knows it at once."""
    wire, client = opened(clock)
    following = clock.create_task(_followed(client))
    clock.passes(60, lambda: pong(wire))
    clock.passes(19)
    assert not client.lost
    clock.passes(7)

    with pytest.raises(LostError, match="its agent has given no sign of life for 20 s") as lost:
        following.result()
    assert (lost.value.code, client.lost) == ("connection", True)
    with pytest.raises(LostError, match="no sign of life"):
        clock.ends(client.jobs())


def test_a_bulk_channel_of_which_no_byte_comes_is_lost(clock: SetClock):
    """Each byte counts, also an empty line of an agent that is at work."""

    async def greeted(wire: Wire) -> object:
        return await Incoming(wire.reader, "pi5", deadlines.STALL).greeting()

    wire = clock.run_until_complete(_wire())
    waiting = clock.create_task(greeted(wire))
    for _ in range(5):
        clock.passes(50)
        wire.reader.feed_data(b"\n")
    clock.passes(61)

    with pytest.raises(LostError, match="its agent has sent nothing for 60 s") as lost:
        waiting.result()
    assert lost.value.code == "connection"


def test_a_host_that_takes_nothing_is_lost(clock: SetClock):
    """A disk that hangs fills every buffer on the way."""

    async def sent(wire: Wire) -> bool:
        return await send(wire, b"x", "pi5")

    wire = clock.run_until_complete(_wire())
    wire.is_full = True
    sending = clock.create_task(sent(wire))
    clock.passes(61)

    with pytest.raises(LostError, match="its agent has taken nothing for 60 s"):
        sending.result()


def test_a_slow_line_is_a_sign_of_life(clock: SetClock):
    """The answer to a ping comes after what is on the way already."""
    wire, client = opened(clock)
    following = clock.create_task(_followed(client))
    wire.reader.feed_data(b'{"id": 1, "event": {"log": "')
    clock.passes(300, lambda: wire.reader.feed_data(b"x"))
    assert not client.lost
    wire.reader.feed_data(b'", "offset": 600}}\n')
    answer(wire, id=1, ok={"state": "CANCELLED", "seconds": 1.0, "log_size": 600})
    clock.ends(following)


def test_the_golden_ping_is_sent_and_its_answer_read(clock: SetClock):
    """The lines that the agent's tests hold too."""
    ping, golden = (CASES / "wire" / "ping.jsonl").read_bytes().splitlines(keepends=True)
    wire, client = opened(clock)
    clock.create_task(_followed(client))
    clock.settle()
    requests(wire)
    clock.passes(5)
    assert wire.written.get_nowait() == ping
    wire.reader.feed_data(golden)
    assert clock.ends(_vitals(client)) == (0.0, 21.5)


def test_a_silent_engine_is_known_within_seconds(clock: SetClock):
    """It counts on between two pings, and is over with the answer that says so."""
    wire, client = opened(clock)
    clock.create_task(_followed(client))
    clock.passes(10, lambda: pong(wire))
    assert clock.ends(_vitals(client)) == (0.0, 0.0)
    clock.passes(5, lambda: pong(wire, engine=3.0))
    first = clock.ends(_vitals(client))
    clock.passes(4)
    assert clock.ends(_vitals(client)) == (first[0] + 4, 0.0)
    clock.passes(6, lambda: pong(wire, disk=7.0))
    assert clock.ends(_vitals(client))[1] >= 7.0
    clock.passes(6, lambda: pong(wire))
    assert clock.ends(_vitals(client)) == (0.0, 0.0)


def test_a_flood_waits_on_the_host(clock: SetClock):
    """Events that nobody takes are not read: they are the host's memory, and not the coordinator's."""
    wire, client = opened(clock)
    items = client.follow("a-1", 0)
    first = clock.create_task(anext(items))
    clock.settle()
    for number in range(1, 100):
        answer(wire, id=1, event={"log": "x" * 10_000, "offset": number})
    clock.settle()
    clock.ends(first)
    clock.settle()

    assert len(wire.reader._buffer) > 800_000
    answer(wire, id=1, ok={"state": "CANCELLED", "seconds": 1.0, "log_size": 0})
    assert len(clock.ends(_rest(items))) == 99  # 98 pieces and the result


def test_who_leaves_a_flood_holds_nobody_up(clock: SetClock):
    """Its frames are dropped, and the next request is answered."""
    wire, client = opened(clock)
    items = client.follow("a-1", 0)
    first = clock.create_task(anext(items))
    clock.settle()
    for number in range(1, 100):
        answer(wire, id=1, event={"log": "x", "offset": number})
    clock.ends(first)
    clock.ends(items.aclose())
    asking = clock.create_task(client.jobs())
    clock.settle()
    answer(wire, id=2, ok={"jobs": []})

    assert clock.ends(asking) == ()


async def _followed(client: AgentClient) -> object:
    *_, end = [item async for item in client.follow("a-1", 0)]
    return end


async def _rest(items: Any) -> list[object]:
    return [item async for item in items]


async def _vitals(client: AgentClient) -> tuple[float, float]:
    await asyncio.sleep(0)
    return client.engine_silence, client.disk_silence
