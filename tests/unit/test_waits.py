"""No wait at an edge is without end: each has its deadline, whose number is in `coordinator/deadlines.py`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.services.paths import ROOT

EDGES = ("broker", "registry", "hosts", "context", "image", "store", "config")
SECONDS = re.compile(r"(_S|TIMEOUT\w*|PATIENCE\w*)$")
# Numbers of seconds that nobody waits for: ages, and how often something is told.
NO_WAITS = {
    "context/digest_cache.py: _USED_EVERY_S",
    "context/scan_progress.py: _EVERY_S",
    "registry/auth.py: _EXPIRY_MARGIN_S",
    "registry/auth.py: _MIN_TOKEN_LIFE_S",
    "registry/auth.py: _TOLD_AFTER_S",
    "registry/client.py: _TOLD_LAG_S",
    "registry/silence.py: _MOVING_S",
    "registry/silence.py: _TOLD_AFTER_S",
    "registry/silence.py: _PAUSES_TOLD_EVERY_S",
    "store/children.py: _RETENTION_S",
    "store/probes.py: _RETENTION_S",
}
# What asyncio, asyncssh and sockets wait in.
WAITS = {"acquire", "communicate", "drain", "get", "join", "read", "readline", "wait", "wait_closed", "wait_for"}
LIMITS = {"timeout", "timeout_at"}
# Waits without a limit of their own, by module and function, and what ends them.
ENDED_ELSEWHERE = {
    "broker/http1.py: Source.read_some": "who reads the head, or the body, has the limit",
    "broker/response.py: Reply._drain": "the board's push or pull, of which no byte moves then",
    "broker/server.py: Broker.__call__": "a client that sends TLS; the next line drains it within a limit",
    "broker/upstream_connections.py: _Talk.converse": "both tasks have limits",
    "broker/upstream_connections.py: _end": "a socket that is closed; TLS has a limit of its own",
    "hosts/agent/context.py: _next": "a thread that reads a file of the context",
    "hosts/agent/control_channel.py: ControlChannel.close": "tasks that are cancelled, or abort within a limit",
    "hosts/agent/control_channel.py: _Answers.put": "the request that has no room, as long as it is open",
    "hosts/agent/control_channel.py: _Answers.take": "the deadline of the request, and the pings",
    "hosts/agent/local.py: LocalChannel._end": "a process that has ended, or is killed",
    "hosts/agent/local.py: LocalTunnel.close": "a server whose connections are cancelled",
    "hosts/agent/local.py: LocalTunnel._serve": "a socket that is closed or aborted",
    "hosts/agent/local.py: _discard": "who closes the channel has the limit",
    "hosts/agent/purge.py: purge": "one line, which every buffer holds",
    "hosts/agent/stderr_tail.py: StderrTail.read": "the end of the channel",
    "hosts/ssh/bootstrap.py: _Startup._send": "the limit of the start",
    "hosts/ssh/channel.py: SshReader.has_more": "the limit of the start",
    "hosts/ssh/channel.py: SshReader.read": "the reader's limit",
    "hosts/ssh/channel.py: SshWriter.drain": "the writer's limit",
    "hosts/ssh/channel.py: _discard": "who closes the channel has the limit",
    "hosts/ssh/channel.py: _read_all": "the end of the channel",
    "hosts/ssh/connect.py: _within_time": "an attempt that is cancelled",
    "hosts/ssh/transport.py: _end": "a connection that is aborted",
    "hosts/ssh/transport.py: _stay": "a task that is cancelled",
    "hosts/ssh/reach.py: takes_connections": "a socket that is closed",
    "image/archive.py: read_archive": "the host's channel, of which no byte comes then",
    "image/spool.py: _in_thread": "a thread that reads or writes a file",
}


def edge_modules() -> Iterator[tuple[str, ast.Module]]:
    for edge in EDGES:
        for path in sorted((ROOT / "coordinator" / edge).rglob("*.py")):
            yield str(path.relative_to(ROOT / "coordinator")), ast.parse(path.read_text("utf-8"))


def test_the_edges_have_no_numbers_of_seconds() -> None:
    """They are in one module, where a reader compares them."""
    found = {f"{path}: {what}" for path, tree in edge_modules() for what in seconds(tree)}
    assert not found - NO_WAITS, f"put it in coordinator/deadlines.py: {found - NO_WAITS}"
    assert not NO_WAITS - found, f"no longer there: {NO_WAITS - found}"


def test_the_edges_wait_for_nothing_without_end() -> None:
    """A wait is in a block with a limit, or has one as an argument, or is listed with what ends it."""
    found = {f"{path}: {function}" for path, tree in edge_modules() for function in endless(tree)}
    assert not found - ENDED_ELSEWHERE.keys(), f"limit it: {sorted(found - ENDED_ELSEWHERE.keys())}"
    assert not ENDED_ELSEWHERE.keys() - found, f"no longer there: {sorted(ENDED_ELSEWHERE.keys() - found)}"


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("_CLOSE_TIMEOUT_S = 2.0", "_CLOSE_TIMEOUT_S"),
        ("_A_S, _B_S = 1, 2", "_A_S, _B_S"),
        ("async def f():\n    async with asyncio.timeout(5):\n        pass", "asyncio.timeout(5)"),
        ("async def f():\n    await asyncio.wait(tasks, timeout=1.0)", "asyncio.wait(tasks, timeout=1.0)"),
        ("async def f():\n    await asyncio.sleep(0.5)", "asyncio.sleep(0.5)"),
        ("stream.settimeout(3)", "stream.settimeout(3)"),
    ],
)
def test_a_number_is_seen(code: str, what: str) -> None:
    """As a constant, and where it is used."""
    assert list(seconds(ast.parse(code))) == [what]


@pytest.mark.parametrize(
    ("code", "functions"),
    [
        ("class C:\n    async def f(self):\n        await reader.read(1)", ["C.f"]),
        ("async def f():\n    await asyncio.wait({task})", ["f"]),
        ("async def f():\n    async with asyncio.timeout(x):\n        pass\n    await queue.get()", ["f"]),
        ("async def f():\n    async with asyncio.timeout(x):\n        await queue.get()", []),
        ("async def f():\n    await asyncio.wait({task}, timeout=deadlines.CLOSE)", []),
        ("async def f():\n    await client.probe()", []),
    ],
)
def test_a_wait_without_end_is_seen(code: str, functions: list[str]) -> None:
    """The limit counts for what is in its block."""
    assert list(endless(ast.parse(code))) == functions


def seconds(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and numbers(node.value):
            names = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target).strip("()")
            if any(SECONDS.search(name) for name in names.split(", ")):
                yield names
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and limit_of(node) is not None and numbers(limit_of(node)):
            yield ast.unparse(node)


def limit_of(call: ast.Call) -> ast.expr | None:
    """The seconds that are given to this call."""
    name = ast.unparse(call.func).rpartition(".")[2]
    if name in {*LIMITS, "settimeout"} or ast.unparse(call.func) == "asyncio.sleep":
        return call.args[0] if call.args else None
    return next((word.value for word in call.keywords if word.arg == "timeout"), None)


def numbers(value: ast.expr | None) -> bool:
    """Whether the value is a number but 0, or a collection of them: 0 is no wait."""
    match value:
        case ast.Constant(value=int() | float() as number):
            return not isinstance(number, bool) and number != 0
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return any(map(numbers, elements))
        case ast.BinOp(left=left, right=right):
            return numbers(left) and numbers(right)
    return False


def endless(tree: ast.Module) -> Iterator[str]:
    for name, function in functions(tree):
        limited = {id(inner) for node in ast.walk(function) if is_limit(node) for inner in ast.walk(node)}
        for node in ast.walk(function):
            if isinstance(node, ast.Await) and id(node) not in limited and waits(node.value):
                yield name
                break


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.AsyncFunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from (
                (f"{node.name}.{inner.name}", inner) for inner in node.body if isinstance(inner, ast.AsyncFunctionDef)
            )
        elif isinstance(node, ast.AsyncFunctionDef):
            yield node.name, node


def is_limit(node: ast.AST) -> bool:
    return isinstance(node, ast.AsyncWith) and any(
        isinstance(item.context_expr, ast.Call) and ast.unparse(item.context_expr.func).rpartition(".")[2] in LIMITS
        for item in node.items
    )


def waits(value: ast.expr) -> bool:
    if not isinstance(value, ast.Call):
        return False
    return ast.unparse(value.func).rpartition(".")[2] in WAITS and limit_of(value) is None
