"""A suggestion is a word that the user may have mistyped, or none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.closest import closest


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("biuld", ["run", "build"], "build"),
        ("Build", ["build"], "build"),
        ("scr", ["src", "docs"], "src"),
        ("conect_timeout", ["connect_timeout", "timeout"], "connect_timeout"),
        ("plattform", ["platform"], "platform"),
        ("builder", ["build"], "build"),
        ("pi4", ["nas", "pi5"], "pi5"),
        ("environment.txt", ["requirements.txt"], ""),
        ("package.json", ["tsconfig.json", "manifest.json"], ""),
        ("main.py", ["app.py"], ""),
        ("test", ["dist"], ""),
        ("a", ["b"], ""),
        ("zz", ["build"], ""),
        ("", ["a"], ""),
        ("a", [], ""),
    ],
)
def test_only_what_is_near_is_suggested(word: str, known: list[str], meant: str):
    """Swapped, missing and wrong characters are slips; an ending in common is none."""
    assert closest(word, known) == meant


@given(st.text(max_size=8), st.lists(st.text(max_size=8), max_size=4))
def test_a_suggestion_is_a_known_word(word: str, known: list[str]):
    assert closest(word, known) in {*known, ""}
