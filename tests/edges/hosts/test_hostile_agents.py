"""A host that sends anything at all, over a real sshd: it is lost, or what it sends is legal, and nothing else happens.

Silence, which takes a minute, is in `test_agent_deadlines.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.errors import LostError
from coordinator.hosts.agent.client import AgentClient, connect
from coordinator.hosts.agent.error_codes import CODES, HostBusyError
from coordinator.hosts.agent.purge import purge
from coordinator.hosts.ssh.bootstrap import AgentFile
from coordinator.hosts.ssh.login_limiter import LoginLimiter
from coordinator.hosts.ssh.transport import SshTransport
from tests.edges.hosts.ssh_bed import host
from tests.services.boards import Board
from tests.services.ssh_home import ssh_home

SCRIPT = Path(__file__).with_name("hostile_agent.py")
# Long enough for a busy machine.
PATIENCE = 20.0
LEGAL_JOB = {"job": "a-1", "state": "BUILT", "since": 1.5}
BUILT = {
    "state": "BUILT", "seconds": 1.0, "log_size": 1, "image_id": "sha256:1", "size": 1, "os": "linux",
    "architecture": "arm", "variant": "v7",
}  # fmt: skip
LOST = {"state": "LOST", "seconds": 1.0, "log_size": 1, "code": "disk", "message": "full"}
PROGRESS = {"progress": {"done": 1, "total": 2}}


class Offer:
    """A context of one file."""

    content_digest = hashlib.sha256(b"abc").hexdigest()
    root = hashlib.sha256(b"{}").hexdigest()
    entries, files, size = 1, 1, 3

    def folder(self, digest: str) -> bytes | None:
        return b"{}" if digest == self.root else None

    def file_size(self, digest: str) -> int | None:
        return 3 if digest == self.content_digest else None

    def content(self, _: str) -> Iterator[bytes]:
        yield from (b"abc",)


async def followed(client: AgentClient) -> list[object]:
    async with aclosing(client.follow("a-1", 0)) as items:
        return [item async for item in items]


async def whole(client: AgentClient) -> list[object]:
    async with aclosing(client.image("a-1")) as items:
        return [item async for item in items]


async def nothing() -> AsyncIterator[bytes]:
    for piece in (b"x",):
        yield piece


HELLO = (
    '{"protocol": 1, "agent": "0", "python": "0", "pid": 1, "parent": 1, "parent_start": 1, "machine_id": "0", '
    '"boot_id": "0", "state": "/"}'
)
# Each request: how it is made, a legal answer, a legal event.
OPS: dict[str, tuple[Callable[[AgentClient], Coroutine[Any, Any, object]], object, object]] = {
    "probe": (lambda client: client.probe(), {"time": 1.5, "cores": 4, "board": "Pi", "load": [0.1]}, {}),
    "create": (lambda client: client.create("a-1", {}), {}, {}),
    "context": (
        lambda client: client.send_enclosed("a-1", Offer(), {}, lambda _: None),
        {"entries": 1, "bytes": 3, "files": 1, "received": 3},
        {},
    ),
    "pull": (lambda client: client.pull("a-1", 1, "s", lambda _: None), {"pulled": 1, "kept": 0}, {"progress": "x"}),
    "lacking": (lambda client: client.lacking("a-1"), {"bases": ["localhost:1/a:1"]}, {}),
    "start": (lambda client: client.start("a-1", "me", 1), {"pid": 1, "slot": 0}, {}),
    "follow": (followed, BUILT, {"log": "#1 x\n", "offset": 5}),
    "push": (
        lambda client: client.push("a-1", 1, "r", "t", "s", lambda *_: None),
        {"digest": "sha256:1", "size": 1},
        PROGRESS,
    ),
    "cancel": (lambda client: client.cancel("a-1"), LOST, {}),
    "forget": (lambda client: client.forget("a-1"), {}, {}),
    "prune": (lambda client: client.prune(1), {"freed": 1}, {}),
    "jobs": (lambda client: client.jobs(), {"jobs": [LEGAL_JOB]}, {}),
    "hang_up": (lambda client: client.hang_up(client.hello), {}, {}),
}
BULKS: dict[str, Callable[[SshTransport, AgentClient], Coroutine[Any, Any, object]]] = {
    "context": lambda _, client: client.send_context("a-1", Offer(), lambda _: None),
    "image": lambda _, client: whole(client),
    "load": lambda _, client: client.load("a-1", nothing()),
    "purge": lambda way, _: purge(way, "mark"),
}


# JSON by its text: also what no other program writes.
ODD = st.sampled_from(
    ["null", "true", "0", "-1", "1.5", '""', "[]", "{}", "[{}]", "NaN", "-Infinity", "1e999", "@MANY 9 400@",
     "@MANY 9 5000@", '"\\ud800"', '"\\udcff"', '"\\u0000"', '"\\u001b[2J\\u0007"', '"caf\u00e9"', '"\xff"',
     "@MANY [ 40@@MANY ] 40@", "@MANY [ 5000@", '"@MANY x 300@"', '"@MANY y 100000@"', '{"\\udfff": 1}', '"../../x"',
     "18446744073709551616", '"registry"', '"refused"', '"LOST"', '"FAILED"', '"vanished"', '"connection"', '"changed"']
)  # fmt: skip
LINES = st.sampled_from(
    ["\n", "nonsense\n", "[]\n", "\xff\xfe\n", "{\n", '{"id": null, "error": 7}\n', '{"id": "1", "ok": {}}\n',
     '{"id": [@ID@], "ok": 7}\n', '{"id": 99999, "ok": {}}\n', '{"ok": {}}\n', "@MANY [ 100000@\n", "@MANY x 2000000@",
     '{"id": @ID@}\n', '{"id": @ID@, "ok": 5}\n', '{"id": @ID@, "error": []}\n', '{"id": @ID@, "event": 5}\n', "@END@"]
)  # fmt: skip
ERROR_CODES = st.sampled_from(
    sorted({code for codes in CODES.values() for code in codes} | {"bad_request", "changed", "started", "x"})
)


def object_of(members: Iterable[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in members) + "}"


def frame(kind: str, body: str) -> str:
    return object_of([("id", "@ID@"), (kind, body)]) + "\n"


def with_odd_parts(value: object, draw: Callable[[st.SearchStrategy[Any]], Any]) -> str:
    """The value as JSON, with parts that are odd or missing."""
    if draw(st.integers(0, 5)) == 0:
        return str(draw(ODD))
    if isinstance(value, dict):
        members = [(name, part) for name, part in value.items() if draw(st.integers(0, 9)) > 0]
        return object_of((name, with_odd_parts(part, draw)) for name, part in members)
    if isinstance(value, list):
        return f"[{', '.join(with_odd_parts(part, draw) for part in value)}]"
    return json.dumps(value)


@st.composite
def said(draw: Callable[[st.SearchStrategy[Any]], Any], op: str) -> list[str]:
    """What is sent in answer to this request: a few frames, some of them legal, and then no more."""
    _, ok, event = OPS[op]
    lines = []
    for _ in range(draw(st.integers(0, 3))):
        body = with_odd_parts(event, draw)
        lines.append(frame("event", body) if draw(st.integers(0, 3)) else draw(LINES))
    kind = draw(st.sampled_from(["ok", "error", "line"]))
    if kind == "ok":
        lines.append(frame("ok", with_odd_parts(ok, draw)))
    elif kind == "error":
        error = {"code": draw(ERROR_CODES), "message": "no \u00fc\x1b[31m", "holder": "bob", "since": 1.5}
        lines.append(frame("error", with_odd_parts(error, draw)))
    else:
        lines.append(draw(LINES))
    return [*lines, "@END@"]


@st.composite
def sent(draw: Callable[[st.SearchStrategy[Any]], Any]) -> list[str]:
    """What a bulk channel sends: questions, chunks, answers, or anything."""
    digests = st.sampled_from([Offer.root, Offer.content_digest, "0" * 64, "../x"])
    lines: list[str] = []
    for _ in range(draw(st.integers(0, 4))):
        question = {
            "want": draw(st.sampled_from(["files", "folders"])),
            "digests": draw(st.lists(digests, max_size=5)),
            "more": draw(st.booleans()),
        }
        answer = {"ok": {"entries": 1, "bytes": 3, "files": 1, "received": 3, "image_id": "sha256:1", "size": 1}}
        error = {"error": {"code": draw(ERROR_CODES), "message": "no"}}
        value = draw(
            st.sampled_from(
                [
                    question,
                    question,
                    answer,
                    error,
                    {"ok": {"jobs": 1, "images": [], "files": [], "keys": 0, "kept": ["\udcff"]}},
                ]
            )
        )
        marked = f"\narchloom-agent {with_odd_parts(value, draw)}\n"
        lines.append(
            draw(st.sampled_from([marked, marked, "3\nabc", "0\n", "\n", "zz\n", "fffff\nab", "@MANY x 70000@"]))
        )
    return lines


@pytest.fixture
def hostile(own_board: Callable[..., Board], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hostile]:
    home = tmp_path / "user"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    board = own_board(engine=False)
    ssh_home(home, board)
    data = SCRIPT.read_bytes()
    file = tmp_path / f"archloom-agent-{hashlib.sha256(data).hexdigest()[:16]}.pyz"
    file.write_bytes(data)
    with asyncio.Runner() as runner:
        made = Hostile(runner, SshTransport(host(board), AgentFile(file), LoginLimiter()))
        yield made
        runner.run(made.close())


class Hostile:
    """A board whose agent says what a test tells it to."""

    def __init__(self, runner: asyncio.Runner, transport: SshTransport) -> None:
        self._runner = runner
        self.transport = transport
        self._client: AgentClient | None = None

    def run(self, ask: Callable[[AgentClient], Coroutine[Any, Any, object]], **says: object) -> object:
        """What comes of the request, or of the bulk channel, when the host says this."""
        return self._runner.run(self._run(ask, says))

    async def _run(self, ask: Callable[[AgentClient], Coroutine[Any, Any, object]], says: dict[str, object]) -> object:
        async with asyncio.timeout(PATIENCE):
            client = await self.client()
            await client.create("a-1", {"control": [], "bulk": [], **says})
            return await ask(client)

    async def client(self) -> AgentClient:
        if self._client is None or self._client.lost:
            await self._close_client()
            self._client = await connect(self.transport)
        return self._client

    async def _close_client(self) -> None:
        if self._client is not None:
            await self._client.close()

    def connect_again(self) -> None:
        """Start another agent on this host."""
        self._runner.run(connect(self.transport))

    def hang_up(self) -> None:
        """End the agent, and wait for nothing that it says."""
        self._runner.run(self.transport.close())

    async def close(self) -> None:
        await self._close_client()
        await self.transport.close()


def check(op: str, ask: Callable[[], object]) -> None:
    """The host is lost, by a legal code, or what it says is legal; each of its words can be shown and stored."""
    try:
        codes, shown = set(), repr(ask())[:1000]
    except HostBusyError as busy:
        assert op == "start"
        codes, shown = set(), f"{busy.message} {busy.holder}"
    except LostError as lost:
        codes, shown = {lost.code}, lost.message
    assert codes <= CODES[op] | {"protocol", "connection", "cut"}
    assert shown.encode()
    assert all(line.isprintable() for line in shown.splitlines())
    assert len(shown) < 20_000


@pytest.mark.parametrize(
    "text",
    [
        "[" * 60_000, "{", "[]", '{"protocol": [[]]}', '{"protocol": "1"}', '{"protocol": 1}',
        HELLO.replace('"0"', '"\\ud800"'), HELLO.replace('"0"', '"\\u001b[2J"'), HELLO.replace('"0"', f'"{"x" * 300}"'),
        HELLO.replace('"pid": 1', f'"pid": 1{"0" * 400}'), HELLO.replace('"pid": 1', '"pid": NaN'),
    ],
    ids=range(11),
)  # fmt: skip
def test_a_greeting_that_is_none_is_a_lost_host(hostile: Hostile, text: str) -> None:
    """Whatever an agent says of itself."""
    hostile.run(lambda client: client.create("a-1", {"control": [], "greeting": f"\narchloom-agent {text}\n"}))
    with pytest.raises(LostError) as lost:
        hostile.connect_again()
    assert lost.value.code == "protocol"
    assert lost.value.message.isprintable()


@pytest.mark.parametrize("op", OPS)
def test_whatever_a_host_answers_it_ends_its_own_work_only(hostile: Hostile, op: str) -> None:
    """For each message of the control channel."""

    @settings(max_examples=12, suppress_health_check=list(HealthCheck))
    @given(said(op))
    def answered(lines: list[str]) -> None:
        check(op, lambda: hostile.run(OPS[op][0], control=lines))

    answered()


@pytest.mark.parametrize("op", BULKS)
def test_whatever_a_bulk_channel_sends_it_ends_its_own_work_only(hostile: Hostile, op: str) -> None:
    """For contexts, archives and the purge."""

    @settings(max_examples=12, suppress_health_check=list(HealthCheck))
    @given(sent())
    def answered(lines: list[str]) -> None:
        check(op, lambda: hostile.run(lambda client: BULKS[op](hostile.transport, client), bulk=lines))

    answered()


# What never ends, and the request or bulk channel that it is sent in answer to.
FLOODS: dict[str, tuple[str, str]] = {
    "log that is taken slowly": ("follow", '{"id": @ID@, "event": {"log": "@MANY x 50000@", "offset": @N@}}\n'),
    "log of one offset": ("follow", '{"id": @ID@, "event": {"log": "@MANY x 50000@", "offset": 1}}\n'),
    "events of a request that has none": ("create", '{"id": @ID@, "event": {"x": "@MANY y 50000@"}}\n'),
    "progress": ("pull", '{"id": @ID@, "event": {"progress": "@MANY z 50000@@N@"}}\n'),
    "answers to nobody": ("jobs", '{"id": 77777, "ok": {"x": "@MANY y 50000@"}}\n'),
    "pings that nobody sent": ("jobs", '{"id": 0, "ok": {"engine": 1.5, "disk": 0, "x": "@MANY y 50000@"}}\n'),
    "one line": ("jobs", "@MANY x 50000@"),
    "values": ("jobs", '{"id": @ID@, "ok": {"jobs": [@MANY [], 300000@1]}}\n'),
}
BULK_FLOODS: dict[str, tuple[str, str]] = {
    "a question": (
        "context",
        f'\narchloom-agent {{"want": "files", "digests": ["{Offer.content_digest}"], "more": true}}\n',
    ),
    "a question for nothing": ("context", '\narchloom-agent {"want": "files", "digests": [], "more": true}\n'),
    "questions": ("context", f'\narchloom-agent {{"want": "folders", "digests": ["{Offer.root}"], "more": false}}\n'),
    "noise": ("load", "@MANY x 1000@\n"),
    "one line of noise": ("purge", "@MANY x 50000@"),
}
MEMORY = 48 << 20


@pytest.mark.parametrize("what", FLOODS)
def test_a_flood_of_frames_takes_little_memory(hostile: Hostile, what: str) -> None:
    """The request ends, or its caller leaves it, and the host waits."""
    op, text = FLOODS[what]

    async def some(client: AgentClient) -> None:
        with suppress(LostError, TimeoutError):
            async with asyncio.timeout(2):
                if op != "follow":
                    await OPS[op][0](client)
                else:
                    await slowly(client)

    assert peak(lambda: hostile.run(some, control=[f"@FLOOD {text}@"])) < MEMORY
    hostile.hang_up()


async def slowly(client: AgentClient) -> None:
    async with aclosing(client.follow("a-1", 0)) as items:
        async for _ in items:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("what", BULK_FLOODS)
def test_a_flood_on_a_bulk_channel_takes_little_memory(hostile: Hostile, what: str) -> None:
    """It ends by itself, as soon as it cannot be an answer any more."""
    op, text = BULK_FLOODS[what]

    def ask() -> None:
        with pytest.raises(LostError) as lost:
            hostile.run(lambda client: BULKS[op](hostile.transport, client), bulk=[f"@FLOOD {text}@"])
        assert lost.value.code == "protocol"

    assert peak(ask) < MEMORY


def peak(work: Callable[[], object]) -> int:
    """The most memory that Python objects took meanwhile, in bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
