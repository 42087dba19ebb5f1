"""The frontend of a build is found as BuildKit finds it."""

from __future__ import annotations

import pytest

from coordinator.domain.dockerfile.syntax import Syntax, detect_syntax, effective_syntax


@pytest.mark.parametrize(
    ("text", "image", "line"),
    [
        ("# syntax=a/b:1\nFROM a", "a/b:1", 1),
        ("#syntax = a/b:1 more words\nFROM a", "a/b:1", 1),
        ("# check=skip=all\n# Syntax=a/b\r\nFROM a", "a/b", 2),
        ("# escape=`\n# SYNTAX=a/b\nFROM a", "a/b", 2),
        ("#!/usr/bin/x\n# syntax=a/b\nFROM a", "a/b", 2),
        ("\ufeff# syntax=a/b\nFROM a", "a/b", 1),
        ("\ufeff#!/x\n// syntax=a/b\n", "a/b", 2),
        ("// syntax=a/b\nanything", "a/b", 1),
        ("// escape=x\n// syntax=a/b\n", "a/b", 2),
        ('{"other": 1,\n "syntax": "a/b"}', "a/b", 1),
        ('#!/x\n{"syntax": "a/b"}', "a/b", 2),
    ],
)
def test_a_file_names_its_frontend(text: str, image: str, line: int):
    """In a comment of either kind, as JSON, behind a byte order mark and a first line for the shell."""
    assert detect_syntax(text) == Syntax(image, line)


@pytest.mark.parametrize(
    "text",
    [
        "FROM a",
        "# why\n# syntax=a/b\nFROM a",
        "\n# syntax=a/b\nFROM a",
        " # syntax=a/b\nFROM a",
        "# unknown=x\n# syntax=a/b",
        "# syntax=\nFROM a",
        '{"syntax": 1}',
        '{"syntax": "a/b"} FROM',
        '["syntax"]',
        "/ syntax=a/b",
    ],
)
def test_what_names_none(text: str):
    assert detect_syntax(text) is None


def test_the_build_argument_replaces_what_the_file_names():
    text = "# syntax=a/b\nFROM a"

    assert effective_syntax(text, {"BUILDKIT_SYNTAX": " docker/dockerfile:1 x"}) == Syntax("docker/dockerfile:1", 0)
    assert effective_syntax(text, {"BUILDKIT_SYNTAX": "", "syntax": "c"}) == Syntax("a/b", 1)
    assert effective_syntax("FROM a", {}) is None


@pytest.mark.parametrize(
    ("image", "foreign", "labs"),
    [
        ("docker/dockerfile:1", False, False),
        ("docker/dockerfile", False, False),
        ("docker.io/docker/dockerfile:1.7.1@sha256:ab", False, False),
        ("docker/dockerfile-upstream:master", False, False),
        ("mirror.gcr.io/docker/dockerfile:1", False, False),
        ("nas.lan:5000/hub/docker/dockerfile", False, False),
        ("docker/dockerfile:1.7-labs", False, True),
        ("nas.lan:5000/docker/dockerfile:labs@sha256:ab", False, True),
        ("docker/dockerfile:1.0-experimental", False, True),
        ("docker/dockerfile@sha256:ab", False, True),
        ("dockerfile:1", True, False),
        ("notdocker/dockerfile:1", True, False),
        ("docker/dockerfile-other:1", True, False),
        ("ghcr.io/x/mopy", True, False),
    ],
)
def test_which_frontends_are_buildkits_own(image, foreign, labs):
    """By repository on any registry; a digest alone may be of a labs release."""
    syntax = Syntax(image, 1)

    assert (syntax.is_foreign, syntax.is_labs) == (foreign, labs)
