"""`.dockerignore` means what it means to `docker build`: the corpus was written down from the real one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.dockerfile.dockerignore import Verdict, compile_ignore
from coordinator.errors import UsageError
from tests.unit.dockerfile.ignore_corpus import CASES, TREE, Case

PIECES = (
    "a", "b", "ab", "c", "*", "**", "?", "/", "/", "/", "[ab]", "[^a]", "[!a]", "[a-c]", "\\a", "\\*", ".", "..", "]",
    "^", "$", "+", "(", "[", "-",
)  # fmt: skip
PATTERNS = st.builds(
    lambda mark, pieces: mark + "".join(pieces),
    st.sampled_from(["", "", "!"]),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=5),
)
TEXTS = st.lists(PATTERNS, max_size=4).map("\n".join)
PATHS = st.lists(st.sampled_from(["a", "b", "ab", "c", "a.b", "[", "*"]), min_size=1, max_size=4).map("/".join)


@pytest.mark.parametrize("case", CASES, ids=[repr(case.ignore) for case in CASES])
def test_corpus(case: Case):
    """Each text sends what `docker build` sends of the same tree, and is refused where that refuses it."""
    if case.refused:
        with pytest.raises(UsageError, match="invalid pattern"):
            compile_ignore(case.ignore)
        return
    matcher = compile_ignore(case.ignore)

    sent = {path.rstrip("/") for path in TREE if not matcher.ignores(path.rstrip("/"))}
    folders = [path for path in TREE if path.endswith("/")]
    with_folders = sent | {path.rstrip("/") for path in folders if any(one.startswith(path) for one in sent)}

    assert {path.rstrip("/") for path in case.sent} == with_folders


@pytest.mark.parametrize(
    ("text", "path", "ignored"),
    [
        ("*\n!a", "a", False),
        ("*\n!a", "b", True),
        ("a\n!a/b", "a/b", False),
        ("a\n!a/b", "a/c", True),
        ("a\n!a/b\na/b/c", "a/b/c", True),
        ("a\n!a/b\na/b/c\n!**/d", "a/b/c/d", False),
        ("!a\na", "a", True),
    ],
)
def test_a_later_line_takes_back_what_an_earlier_one_left_out(text, path, ignored):
    """The last line that matches decides."""
    assert compile_ignore(text).ignores(path) is ignored


@given(TEXTS, PATHS)
def test_nothing_comes_back_where_no_visit_is_asked_for(text: str, path: str):
    """A walk may leave out an ignored folder unless `may_reinclude` says otherwise: all below it is ignored."""
    try:
        matcher = compile_ignore(text)
    except UsageError:
        return
    parts = path.split("/")
    above: Verdict | None = None
    closed = False
    for count in range(1, len(parts) + 1):
        here = "/".join(parts[:count])
        above = matcher.verdict(here, above)
        assert not closed or above.ignored
        closed = closed or (above.ignored and not matcher.may_reinclude(here))

    assert above is not None
    assert above.ignored == matcher.ignores(path)


@pytest.mark.parametrize(
    ("text", "folder", "may"),
    [
        ("*\n!a/b", "a", True),
        ("*\n!a/b/c", "a/b", True),
        ("*\n!a/b", "a/b", True),
        ("*\n!a/b/**", "a", True),
        ("*\n!a/b/*", "a/b", True),
        ("*\n!**/b", "x", True),
        ("*\n!c\n!a*", "x", True),
        ("*\n!a/b", "b", False),
        ("*\n!ab/c", "a", False),
        ("*\n!a/bc", "a/b", False),
        ("*\n!a", "a/b", False),
        ("a\na/b", "a", False),
        ("a\n*/b", "a", False),
        ("*", "a", False),
    ],
)
def test_an_ignored_folder_is_visited_only_for_an_exception_below_it(text, folder, may):
    """A walk that visited `node_modules` for nothing would take minutes."""
    assert compile_ignore(text).may_reinclude(folder) is may


@given(st.text(max_size=40), st.text(min_size=1, max_size=20))
def test_any_text_is_read_or_refused(text: str, path: str):
    """No pattern and no name crashes the matcher, and Python's own warnings about brackets do not come up."""
    try:
        matcher = compile_ignore(text)
    except UsageError:
        return
    matcher.ignores(path)


def test_a_wrong_pattern_is_shown_with_its_line():
    """File, line, pattern and what to write."""
    with pytest.raises(UsageError) as caught:
        compile_ignore("# fine\n*.o\n  a[b  \n", "ctx/.dockerignore")

    assert caught.value.message.startswith("ctx/.dockerignore:3: invalid pattern 'a[b'")
    assert "\\[ is a bracket" in caught.value.hint
