"""Variables, quotes and escapes mean what they mean to BuildKit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.dockerfile.expansion import ExpansionError, expand, split_quoted

VALUES = {"A": "one", "EMPTY": "", "PATH_": "a/b/c.tar.gz", "_x1": "y", "V": "v1.2.3"}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("$A", "one"), ("${A}", "one"), ("x$A.y", "xone.y"), ("$Ax", ""), ("${A}x", "onex"), ("$_x1-", "y-"),
        ("${A:-d}", "one"), ("${N:-d}", "d"), ("${EMPTY:-d}", "d"), ("${EMPTY-d}", ""), ("${N-d}", "d"),
        ("${A:+d}", "d"), ("${N:+d}", ""), ("${EMPTY:+d}", ""), ("${EMPTY+d}", "d"), ("${N:-${A}-$EMPTY}", "one-"),
        ("${A:?no}", "one"), ("${EMPTY?no}", ""), ("${N:-'a b'}", "a b"), ("${N:-a\\}b}", "a}b"),
        ("${PATH_#*/}", "b/c.tar.gz"), ("${PATH_##*/}", "c.tar.gz"), ("${PATH_%.*}", "a/b/c.tar"),
        ("${PATH_%%.*}", "a/b/c"), ("${PATH_#x}", "a/b/c.tar.gz"), ("${PATH_%?z}", "a/b/c.tar."), ("${V#v}", "1.2.3"),
        ("${PATH_/\\//-}", "a-b/c.tar.gz"), ("${PATH_//\\//-}", "a-b-c.tar.gz"), ("${V//[0-9]/x}", "v1.2.3"),
        ("${N#x}", ""), ("${A%\\*}", "one"),
        ("'$A'", "$A"), ('"$A"', "one"), ('"\\$A"', "$A"), ("\\$A", "$A"), ('"a\\b"', "a\\b"), ("a\\b", "ab"),
        ("'a'\"b\"c", "abc"), ('"\\""', '"'), ("a\\", "a"), ("$", "$"), ("$.", "$."), ("$1a", "a"), ("$@b", "b"),
    ],
)  # fmt: skip
def test_expansion(word: str, expected: str):
    """Operators, patterns, nesting, quotes and escapes."""
    assert expand(word, VALUES, "\\").text == expected


@pytest.mark.parametrize(
    "word", ["${", "${A", "${}", "${:-x}", "${{A}}", "${A:", "${A!x}", "${A:?}${N:?}", "'a", '"a', "${N?}", "${A#\\n}"]
)
def test_what_cannot_be_expanded(word: str):
    """What BuildKit refuses is refused."""
    with pytest.raises(ExpansionError):
        expand(word, VALUES, "\\")


def test_variables_without_a_value_are_named():
    """Each once, in the order met; one that is empty has a value."""
    assert expand("$N${EMPTY}${M:-x}$N$O", VALUES, "\\").unset == ("N", "O")


def test_the_escape_character_is_the_files_own():
    """Where it is the backquote, a backslash is a character like others."""
    assert expand("a\\b`$A", VALUES, "`").text == "a\\b$A"


@given(st.text())
def test_any_word_expands_or_is_refused(word: str):
    """No word crashes the reader."""
    try:
        expand(word, VALUES, "\\")
    except ExpansionError:
        return


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b=c", ["a", "b=c"]),
        ("a=\"b c\" d='e f'", ['a="b c"', "d='e f'"]),
        ("a=b\\ c d", ["a=b\\ c", "d"]),
        ("a='b\\' c", ["a='b\\'", "c"]),
        ("  ", []),
    ],
)
def test_words_of_arg_and_env(text: str, expected: list[str]):
    """Space parts words outside quotes; quotes and escapes stay for the expansion."""
    assert split_quoted(text, "\\") == expected
