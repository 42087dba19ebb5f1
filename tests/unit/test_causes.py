"""Causes: one table, the same words on both sides of the wire, and rules for texts that nobody knows."""

from __future__ import annotations

import ast
from typing import get_args

import pytest

from agents.base.errors import Code
from coordinator.domain.causes import RULES, Cause, Retry, rule
from coordinator.errors import Exit
from tests.services.paths import CASES, ROOT

CODES = dict(line.split() for line in (CASES / "wire" / "codes.txt").read_text().splitlines())


def test_the_agent_sends_the_golden_codes():
    assert sorted(get_args(Code)) == sorted(CODES)


def test_every_code_that_an_attempt_may_end_with_is_a_cause():
    assert {code for code, kind in CODES.items() if kind == "cause"} <= {cause.value for cause in Cause}


def test_every_cause_has_a_rule():
    assert set(RULES) == set(Cause)


def test_what_follows_from_each_cause():
    """Golden: which hosts may take the next attempt, the exit code, what has to be fixed, and what holds besides."""
    flags = ("may_return", "no_tunnel", "archive_helps")
    lines = [
        " | ".join(
            [
                f"{cause:13}",
                f"{rule(cause).retry:14}",
                str(rule(cause).exit_code.value),
                f"{rule(cause).fault:12}",
                " ".join(flag for flag in flags if getattr(rule(cause), flag)),
            ]
        ).rstrip()
        for cause in Cause
    ]

    assert "\n".join(lines) + "\n" == (CASES / "causes.txt").read_text()


def test_a_text_that_nobody_knows_gets_the_default_rule():
    """A row of a newer or an older archloom: lost, and tried elsewhere."""
    unknown = rule("melted")

    assert (unknown.retry, unknown.exit_code) == (Retry.OTHER_HOST, Exit.LOST)
    assert (unknown.may_return, unknown.no_tunnel, unknown.archive_helps) == (False, False, True)


@pytest.mark.parametrize("package", ["farm", "run", "domain/run", "domain/placement"])
def test_no_string_is_compared_with_a_code(package):
    """A typo in a string is silent; a typo in a cause fails the type check."""
    for path in (ROOT / "coordinator" / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                codes = [side for side in sides if isinstance(side, ast.Attribute) and side.attr == "code"]
                texts = [side for side in sides if isinstance(side, ast.Constant) and isinstance(side.value, str)]
                assert not (codes and texts), f"{path}:{node.lineno}"
