"""The budgets that neither ruff nor mypy checks: how large modules are, how deep classes go, what tests may import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
LONGEST, MEDIAN = 400, 150
DEPTH, ERROR_DEPTH = 1, 2


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
