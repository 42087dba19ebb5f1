"""docs/architecture.md is true: its ways exist, each file imports the next, and they are short."""

from __future__ import annotations

import ast
import re
from itertools import pairwise

import pytest

from tests.services.paths import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()


def way(title: str) -> list[str]:
    """The first file of each numbered line below this heading."""
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"^\d+\. `([\w/.]+)`", section, re.MULTILINE)


def imports(path: str) -> set[str]:
    """The modules that a file imports, as paths; also those it imports when it needs them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            found |= {f"{name.replace('.', '/')}.py" for name in names}
    return found


@pytest.mark.parametrize(
    ("title", "longest"),
    [("From the command to the wire", 9), ("On the board, from the frame to the engine", 5), ("Back to the tag", 4)],
)
def test_each_file_imports_the_next(title, longest):
    files = way(title)

    assert 3 <= len(files) <= longest
    for file, following in pairwise(files):
        if title == "Back to the tag":
            continue  # the steps follow each other by the store's state: the dispatch imports them all
        assert following in imports(file), f"{file} does not import {following}"


def test_the_dispatch_imports_every_step_of_the_way_back():
    first, *steps = way("Back to the tag")

    assert set(steps) <= imports(first) | imports("coordinator/run/steps/of_attempt.py")


def test_every_decision_that_the_code_names_is_there():
    for path in (ROOT / "coordinator").rglob("*.py"):
        for name in re.findall(r"docs/decisions/[\w.-]+\.md", path.read_text("utf-8")):
            assert (ROOT / name).is_file(), f"{path}: {name}"


def test_every_file_that_the_page_names_is_there():
    for name in re.findall(r"`((?:coordinator|agents)/[\w/]+\.py)`", PAGE):
        assert (ROOT / name).is_file(), name
