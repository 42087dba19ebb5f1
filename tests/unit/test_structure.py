"""What names and shapes the product's code may have, read from its syntax trees."""

from __future__ import annotations

import ast
import importlib.util
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.paths import ROOT

PATHS = sorted(path for package in ("coordinator", "agents") for path in (ROOT / package).rglob("*.py"))
TREES = {str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8")) for path in PATHS}

# Names that say nothing of what they hold; docs/glossary.md has the words for these.
VAGUE = {"Around", "Asked", "Door", "Loom", "Outcome", "Sighting", "Sink", "StoredChild", "Wish", "Workplace"}
VAGUE |= {"here", "one", "sink", "told", "walled"}
VAGUE_MODULES = {"common", "helpers", "managers", "misc", "utils"}

# Modules of one verb, one in each layer that the verb passes, and the edges' transports.
SAME_NAME = {"build", "cancel", "plan", "push", "retry", "transport", "trust"}


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name


def unions_with_errors(tree: ast.AST) -> Iterator[int]:
    """Lines that annotate a value as "this, or that error". An error, or None where there is none, is a value."""
    for node in ast.walk(tree):
        for union in ast.walk(_annotation(node) or ast.Pass()):
            if isinstance(union, ast.BinOp):
                sides = [ast.unparse(side) for side in (union.left, union.right)]
                if any(side.endswith(("Error", "Exception")) for side in sides) and "None" not in sides:
                    yield union.lineno


def compared_codes(tree: ast.AST) -> Iterator[int]:
    """Lines that compare a `.code` with a string."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare():
                sides = [node.left, *node.comparators]
            case ast.Match():
                sides = [node.subject, *(case.pattern for case in node.cases)]
            case _:
                continue
        parts = [part for side in sides for part in ast.walk(side)]
        if any(isinstance(side, ast.Attribute) and side.attr == "code" for side in sides) and any(
            isinstance(part, ast.Constant) and isinstance(part.value, str) for part in parts
        ):
            yield node.lineno


def _annotation(node: ast.AST) -> ast.expr | None:
    match node:
        case ast.arg() | ast.AnnAssign():
            return node.annotation
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return node.returns
        case _:
            return None


def test_programs_import_what_is_there():
    """Those of bench/ and scripts/, which no type check reads and few tests start."""
    missing = []
    for path in [*(ROOT / "bench").glob("*.py"), *(path for path in (ROOT / "scripts").iterdir() if _is_python(path))]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in {"coordinator", "agents"}:
                module = importlib.import_module(node.module)
                missing += [
                    f"{path.name}:{node.lineno}: {node.module}.{alias.name}"
                    for alias in node.names
                    if not hasattr(module, alias.name) and not importlib.util.find_spec(f"{node.module}.{alias.name}")
                ]

    assert not missing


def _is_python(path: Path) -> bool:
    return path.is_file() and "python" in path.read_text("utf-8").partition("\n")[0]


def test_no_name_is_vague():
    found = [
        f"{path}:{line}: {name}"
        for path, tree in TREES.items()
        for line, name in names(tree)
        if name.strip("_") in VAGUE
    ]
    found += [path for path in TREES if VAGUE & set(path.removesuffix(".py").split("/"))]

    assert not found, f"say what it is: {found}"


def test_a_module_is_known_by_its_name():
    packages = defaultdict(list)
    for path in PATHS:
        if not path.stem.startswith("__"):
            packages[path.stem].append(str(path.parent.relative_to(ROOT)))
    many = {name: folders for name, folders in packages.items() if len(folders) > 2}

    assert set(many) <= SAME_NAME, f"in more than two packages: {many}"


def test_no_error_is_one_of_several_results():
    found = [f"{path}:{line}" for path, tree in TREES.items() for line in unions_with_errors(tree)]

    assert not found, f"raise it, or return a value that says why: {found}"


def test_no_code_is_compared_with_a_string():
    """A typo in a string is silent; one in a `Cause`, or in the agent's `Code`, fails the type check."""
    found = [
        f"{path}:{line}"
        for path, tree in TREES.items()
        if path.startswith("coordinator/")
        for line in compared_codes(tree)
    ]

    assert not found, f"compare it with a constant: {found}"


def test_work_on_registries_ends_with_its_first_error():
    """A bare `asyncio.gather` leaves the others running, while the clients close."""
    found = [
        f"{path}:{node.lineno}"
        for path, tree in TREES.items()
        if path.startswith(("coordinator/publish/", "coordinator/run/inputs/"))
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "asyncio.gather"
    ]

    assert not found, f"use coordinator.parallel.in_parallel: {found}"


@pytest.mark.parametrize(
    "code", ["def f() -> int | LostError: ...", "x: OSError | str", "def f(x: str | Exception): ..."]
)
def test_an_error_among_results_is_seen(code):
    assert list(unions_with_errors(ast.parse(code)))


@pytest.mark.parametrize("code", ["e.code == 'a'", "e.code in {'a', 'b'}", "match e.code:\n    case 'a': ..."])
def test_a_code_compared_with_a_string_is_seen(code):
    assert list(compared_codes(ast.parse(code)))
