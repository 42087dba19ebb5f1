"""The glossary is true: what it names is in the code, each word once."""

from __future__ import annotations

import ast
import re
from itertools import chain

from tests.services.paths import ROOT

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "glossary.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| word ")
]


def defined() -> set[str]:
    """Names of packages, classes, functions and members of enumerations, these as `Class.MEMBER`."""
    names = {"agents", "coordinator"}
    for path in chain((ROOT / "coordinator").rglob("*.py"), (ROOT / "agents").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(node.name)
            if isinstance(node, ast.ClassDef):
                members = [target for line in node.body if isinstance(line, ast.Assign) for target in line.targets]
                names |= {f"{node.name}.{member.id}" for member in members if isinstance(member, ast.Name)}
    return names


def test_what_the_glossary_names_is_in_the_code():
    names = defined()
    missing = [name for *_, cell in ROWS for name in re.findall(r"`([^`]+)`", cell) if name not in names]

    assert not missing


def test_each_word_stands_there_once_and_in_order():
    words = [row[0] for row in ROWS]

    assert words == sorted(set(words))
