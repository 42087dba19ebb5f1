r"""Sources with wildcards match as Go's `filepath.Match` says.

The table is Go's: golang/go `src/path/filepath/match_test.go`.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.dockerfile.path_match import (
    PatternError,
    crosses_folders,
    has_wildcards,
    matches,
    split_pattern,
)


@pytest.mark.parametrize(
    ("pattern", "name", "matched"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*c", "abc", True),
        ("a*", "a", True),
        ("a*", "abc", True),
        ("a*", "ab/c", False),
        ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", False),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^b-d]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("a?b", "a☺b", True),
        ("a[^a]b", "a☺b", True),
        ("a???b", "a☺b", False),
        ("a[^a][^a][^a]b", "a☺b", False),
        ("[a-ζ]*", "\u03b1", True),
        ("*[a-ζ]", "A", False),
        ("a?b", "a/b", False),
        ("a*b", "a/b", False),
        ("[\\]a]", "]", True),
        ("[\\-]", "-", True),
        ("[x\\-]", "x", True),
        ("[x\\-]", "-", True),
        ("[x\\-]", "z", False),
        ("[\\-x]", "x", True),
        ("[\\-x]", "-", True),
        ("[\\-x]", "a", False),
        ("*x", "xxx", True),
        # `!` is a member of a class and not its opposite; a class, unlike `*` and `?`, takes `/`.
        ("[!a]", "a", True),
        ("[!a]", "!", True),
        ("[!a]", "b", False),
        ("a[^x]b", "a/b", True),
        ("[[:x:]]", ":]", True),
        ("[[:x:]]", "x", False),
        ("[a&&b]", "&", True),
        ("**", "a/b", False),
        ("", "", True),
        ("", "a", False),
        # A byte that is not UTF-8 is one character for `?`, and the replacement character for a class.
        ("a?", "a\udcff", True),
        ("[^b]", "\udcff", True),
        ("[\ufffd]", "\udcff", True),
        # Only the last star is tried again, which a class that takes `/` would show.
        ("*[^x]b*c", "abz/bc", False),
    ],
)
def test_what_go_matches(pattern, name, matched):
    assert matches(pattern, name) is matched


@pytest.mark.parametrize(
    "pattern",
    [
        "[]a]",
        "[-]",
        "[x-]",
        "[-x]",
        "\\",
        "[a-b-c]",
        "[",
        "[^",
        "[^bc",
        "a[",
        "a/b[",
        "[^]a]",
        "[a\\",
        "[a\\]",
        "a[\udcff]",
    ],
)
@pytest.mark.parametrize("name", ["", "a", "x", "-", "]", "ab"])
def test_what_go_rejects(pattern: str, name: str):
    """Whatever the name is: the rest of a pattern is read after a mismatch too."""
    with pytest.raises(PatternError):
        matches(pattern, name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a", False), ("a*", True), ("a?b", True), ("a[b", True), ("a\\*", False), ("a\\\\*", True), ("a]^!{}", False)],
)
def test_what_makes_a_path_a_pattern(text, expected):
    assert has_wildcards(text) is expected


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("a/b", ("a/b", "")),
        ("a/b*/c", ("a", "b*/c")),
        ("*", ("", "*")),
        ("a\\*/b/c?", ("a\\*/b", "c?")),
    ],
)
def test_a_pattern_begins_at_its_first_component_with_wildcards(path: str, parts: tuple[str, str]):
    assert split_pattern(path) == parts


@pytest.mark.parametrize(
    ("pattern", "crosses"), [("a*?", False), ("[a-z]", False), ("[^a]", True), ("[+-9]", True), ("[^/]", False)]
)
def test_a_class_may_match_a_slash(pattern, crosses):
    assert crosses_folders(pattern) is crosses


NAMES = st.text("ab*?[]\\-^!/é", max_size=8)


@given(NAMES)
def test_an_escaped_name_matches_itself_alone(name: str):
    escaped = "".join(f"\\{char}" for char in name)

    assert matches(escaped, name)
    assert not has_wildcards(escaped)
    assert not matches(escaped, name + "a")


@given(st.lists(st.sampled_from(["a", "b", "*", "?", "[ab]", "[^b]", "[!a-b]", "\\*", "/"]), max_size=6), NAMES)
def test_every_pattern_agrees_with_its_definition(pieces: list[str], name: str):
    """Against a matcher that tries every length of every star, on patterns whose classes do not take `/`."""
    pieces = [piece for piece in pieces if piece != "[^b]"]

    assert matches("".join(pieces), name) is slow(pieces, name)


def slow(pieces: list[str], name: str) -> bool:
    if not pieces:
        return not name
    piece, *rest = pieces
    if piece == "*":
        longest = name.find("/") if "/" in name else len(name)
        return any(slow(rest, name[count:]) for count in range(longest + 1))
    members = {"?": None, "[ab]": "ab", "[!a-b]": "!ab", "\\*": "*"}.get(piece, piece)
    if not name or not (name[0] != "/" if members is None else name[0] in members):
        return False
    return slow(rest, name[1:])
