"""Text and names of others reach a terminal as text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.visible import file_word, visible, visible_name, visible_text
from tests.services.paths import ROOT


def test_a_name_keeps_all_that_it_has():
    """A colour is a part of a name, and so is a byte that is not UTF-8; of a line a colour is none."""
    name = "caf\udce9\x1b[31m\t\n"

    assert visible_name(name) == r"caf\xe9\x1b[31m\t\n"
    assert visible(name) == "caf\\xe9\t\\n"
    assert visible_text("a\nb\x07") == "a\nb\\x07"


@given(st.binary(max_size=20))
def test_every_name_can_be_shown(name: bytes):
    """On one line, in UTF-8, whatever its bytes are."""
    shown = visible_name(name.decode("utf-8", "surrogateescape"))

    assert shown.isprintable()
    assert shown.encode("utf-8").decode("utf-8") == shown


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("/srv/state", "/srv/state"),
        ("it's; $(x) `y`", """'it'"'"'s; $(x) `y`'"""),
        ("-rf", "./-rf"),
        ("~/my keys/id", "~/'my keys/id'"),
        ("~/", "~/"),
        ("two\nlines", "FILE"),
        ("red\x1b[31m", "FILE"),
        ("\udce9", "FILE"),
    ],
)
def test_a_file_in_a_command_is_one_word(name: str, word: str):
    """Whatever its name; one that cannot be shown is a placeholder."""
    assert file_word(name) == word


def test_every_file_in_a_command_is_a_word():
    """In the hints of all modules."""
    commands = r"(ls -ld?|chmod [a-z+]+|mkdir -p|df -h|du -sh|fuser -v|mv|ssh-add|ansible-vault view|echo) "
    quoted = r"(?!\{(file_word|shlex\.quote)\()\{"
    found = [
        f"{path.name}: {match[0]}"
        for path in (ROOT / "coordinator").rglob("*.py")
        for match in re.finditer(commands + quoted, path.read_text())
    ]

    assert found == []
