"""The budgets that neither ruff nor mypy checks: how large modules are, how deep classes go, what tests may import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median

import pytest

from tests.services.paths import ROOT

LONGEST, MEDIAN = 400, 150
DEPTH, ERROR_DEPTH = 1, 2
# What limits the others, and programs that tests start or send to a board, which ends with its test.
UNLIMITED = (
    "tests/services/commands.py",
    "tests/edges/hosts/stand_in_agent.py",
    "tests/chaos/liar.py",
    "tests/recorders/on_board.py",
)
STARTS = {
    "subprocess": {"run", "call", "check_call", "check_output", "getoutput", "getstatusoutput", "Popen"},
    "os": {"system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp", "spawnv", "spawnvp"},
    "pty": {"fork", "spawn"},
}


@cache
def product() -> dict[str, tuple[int, ast.Module]]:
    """Lines and syntax tree by path, of everything that is shipped."""
    return {name: read for package in ("coordinator", "agents") for name, read in _modules(package)}


def test_modules_are_short() -> None:
    """No module is longer than 400 lines, tests included, and half of the product's have at most 150."""
    lengths = {name: lines for name, (lines, _) in (product() | dict(_modules("tests"))).items()}
    long = {name: lines for name, lines in lengths.items() if lines > LONGEST}
    assert not long, f"longer than {LONGEST} lines, split by what they do: {long}"
    middle = median(lines for lines, _ in product().values())
    assert middle <= MEDIAN, f"the median module has {middle} lines, more than {MEDIAN}"


def test_classes_are_flat() -> None:
    """A class of ours has no base of ours; an error may have one above it. Nothing inherits twice."""
    bases = {
        f"{module}.{node.name}": [_qualified(base, module, tree) for base in node.bases]
        for module, (_, tree) in ((_module(path), read) for path, read in product().items())
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }

    def depth(name: str) -> int:
        return 1 + max((depth(base) for base in bases[name] if base in bases), default=0)

    deep = {name: depth(name) for name in bases if depth(name) > (ERROR_DEPTH if name.endswith("Error") else DEPTH)}
    assert not deep, f"classes over classes of ours (name: depth), use functions or a Protocol: {deep}"
    several = {name: above for name, above in bases.items() if len(above) > 1}
    assert not several, f"more than one base: {several}"


def test_nothing_is_mocked() -> None:
    """No test imports a mock or replaces an attribute of our code: fakes pass the contract of the real thing."""
    found = [
        f"{path}:{node.lineno}: {word}"
        for path, (_, tree) in _modules("tests")
        for node in ast.walk(tree)
        for word in _mocking(node)
    ]
    assert not found, f"use a fake that passes the same contract tests as the real thing: {found}"


@pytest.mark.parametrize("folder", ["tests", "bench"])
def test_nothing_waits_for_ever(folder: str) -> None:
    """A process that a test or measurement starts is a `Child`, which ends in time; every other wait says how long."""
    found = [
        f"{path}:{number}: {words}"
        for path, (_, tree) in _modules(folder)
        if path not in UNLIMITED
        for number, words in _endless(tree)
    ]
    assert not found, f"give it a timeout, or start it by tests/services/commands.py: {found}"


@pytest.mark.parametrize(
    "code",
    [
        "subprocess.run(['true'], timeout=5)",  # nor ends what it has started
        "x = subprocess.Popen(['true'])",
        "os.system('true')",
        "from subprocess import check_output",
        "thread.join()",
        "event.wait()",
        "queue.get()",
        "child.stdout.readline()",
        "[line for line in child.stderr]",
        "select.select([fd], [], [])",
    ],
)
def test_what_waits_for_ever_is_seen(code: str) -> None:
    """Also where the library has a limit that its own children do not keep to."""
    assert list(_endless(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "Child(['true'])",
        "thread.join(5)",
        "','.join(words)",
        "event.wait(timeout=5)",
        "async def f():\n    await event.wait()",  # the loop that runs it is ended with the test
        "with child.within(5):\n    child.stdout.readline()",
        "select.select([fd], [], [], 5)",
    ],
)
def test_what_ends_is_let_be(code: str) -> None:
    """A wait with a limit, and one that is a coroutine."""
    assert not list(_endless(ast.parse(code)))


def test_the_reference_inventory_is_there() -> None:
    """The commented reference of `inventory.yaml` is at the root."""
    assert (ROOT / "inventory.yaml").is_file(), "inventory.yaml is missing: README and errors point at it"


def _modules(folder: str) -> Iterator[tuple[str, tuple[int, ast.Module]]]:
    for path in _paths(folder):
        text = path.read_text("utf-8")
        yield str(path.relative_to(ROOT)), (len(text.splitlines()), ast.parse(text))


def _paths(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def _mocking(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.ImportFrom(module=str(module)) if "mock" in module.split("."):
            yield module
        case ast.Import() | ast.ImportFrom():
            yield from (alias.name for alias in node.names if "mock" in alias.name.split("."))
        case ast.Call(func=ast.Attribute(value=ast.Name(id="monkeypatch"), attr="setattr")):
            yield "monkeypatch.setattr"


def _endless(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Where a test starts a process of its own, or waits without a limit."""
    fine = set(_limited(tree))
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="subprocess" | "os" | "pty" as module, names=names):
                yield from ((node.lineno, one.name) for one in names if one.name in STARTS[module])
            case ast.Attribute(value=ast.Name(id="subprocess" | "os" | "pty" as module), attr=name):
                if name in STARTS[module]:
                    yield node.lineno, ast.unparse(node)
            case ast.Call() if node not in fine and _waits(node):
                yield node.lineno, ast.unparse(node)
            case ast.For(iter=source) | ast.comprehension(iter=source) if node not in fine and _is_pipe(source):
                yield source.lineno, ast.unparse(source)


def _limited(tree: ast.Module) -> Iterator[ast.AST]:
    """What a loop runs, and so does not wait itself, and what is read within a child's limit."""
    for node in ast.walk(tree):
        match node:
            case ast.Await(value=value):
                yield value
            case ast.Call(func=ast.Attribute(value=ast.Name(id="asyncio")), args=args):
                yield from args
            case ast.With(items=items) if any(".within(" in ast.unparse(item) for item in items):
                yield from ast.walk(node)


def _waits(call: ast.Call) -> bool:
    match call:
        case ast.Call(func=ast.Attribute(attr="wait" | "join" | "get"), args=[], keywords=[]):
            return True
        case ast.Call(func=ast.Attribute(value=source, attr="read" | "readline" | "readlines")):
            return _is_pipe(source)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="select"), attr="select"), args=[_, _, _], keywords=[]):
            return True
    return False


def _is_pipe(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in {"stdout", "stderr"}


def _module(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


def _qualified(base: ast.expr, module: str, tree: ast.Module) -> str:
    """`coordinator.errors.UsageError` for a base that the module imports by name, else the module's own."""
    name = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if name.partition(".")[0] == (alias.asname or alias.name):
                    return f"{node.module}.{name.replace(alias.asname or alias.name, alias.name, 1)}"
    return f"{module}.{name}"
