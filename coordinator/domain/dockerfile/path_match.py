r"""Go's `filepath.Match`, which COPY and ADD use for sources with wildcards.

`*` is any text and `?` any character, both without `/`. `[a-c]` is a class, `[^a]` its opposite, and `[!a]` is "! or
a". `\` makes the next character literal, in a class too. `-` and `]` stand in a class only after `\`. A class, unlike
`*` and `?`, may match `/`.

Source: https://pkg.go.dev/path/filepath#Match and the table of golang/go `src/path/filepath/match_test.go`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

_REPLACEMENT = 0xFFFD


class PatternError(Exception):
    """The pattern is malformed: a class is not closed, empty, or has a range without a bound; or a `\\` ends it."""


class _Wild(Enum):
    STAR = "*"
    ANY = "?"


@dataclass(frozen=True, slots=True)
class _Class:
    negated: bool
    ranges: tuple[tuple[int, int], ...]

    def holds(self, char: str) -> bool:
        code = _code(char)
        return any(low <= code <= high for low, high in self.ranges) != self.negated


_Token = _Wild | _Class | str


def has_wildcards(text: str) -> bool:
    r"""Return whether BuildKit reads this path as a pattern: it has `*`, `?` or `[` that no `\` precedes."""
    escaped = False
    for char in text:
        if not escaped and char in "*?[":
            return True
        escaped = not escaped and char == "\\"
    return False


def split_pattern(path: str) -> tuple[str, str]:
    r"""Return the folder that precedes the pattern and the pattern, relative to it; either may be empty.

    The pattern begins at the first component with wildcards. BuildKit takes what precedes it literally, `\` included.
    Source: tonistiigi/fsutil `copy/copy.go` (`splitWildcards`).
    """
    parts = path.split("/")
    at = next((index for index, part in enumerate(parts) if has_wildcards(part)), len(parts))
    return "/".join(parts[:at]), "/".join(parts[at:])


def matches(pattern: str, name: str) -> bool:
    """Return whether the whole of `name` matches. Raises PatternError for a malformed pattern, whatever the name is."""
    tokens = tuple(_tokens(pattern))
    at = position = 0
    # After a star: the index of the token that follows it, and how far the star extends. As in Go, only the last star
    # is extended, so a class that matches `/` does not make an earlier one try again.
    star = extent = -1
    while position < len(name) or at < len(tokens):
        if at < len(tokens) and tokens[at] is _Wild.STAR:
            star, extent = at + 1, position
            at += 1
        elif at < len(tokens) and position < len(name) and _is_match(tokens[at], name[position]):
            at += 1
            position += 1
        elif star >= 0 and extent < len(name) and name[extent] != "/":
            extent += 1
            at, position = star, extent
        else:
            return False
    return True


def crosses_folders(pattern: str) -> bool:
    """Return whether a class of the pattern matches `/`. Raises PatternError."""
    return any(isinstance(token, _Class) and token.holds("/") for token in _tokens(pattern))


def _is_match(token: _Token, char: str) -> bool:
    if isinstance(token, _Class):
        return token.holds(char)
    return char != "/" if token is _Wild.ANY else token == char


def _tokens(pattern: str) -> Iterator[_Token]:
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "[":
            token, at = _class(pattern, at)
            yield token
        elif char == "\\":
            if at == len(pattern):
                raise PatternError("nothing follows the last '\\'")
            yield pattern[at]
            at += 1
        else:
            yield _Wild(char) if char in "*?" else char


def _class(pattern: str, at: int) -> tuple[_Class, int]:
    """Return the class whose `[` is just before `at`, and the index after it."""
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[tuple[int, int]] = []
    while not (ranges and pattern.startswith("]", at)):
        low, at = _bound(pattern, at)
        high = low
        if pattern.startswith("-", at):
            high, at = _bound(pattern, at + 1)
        ranges.append((low, high))
    return _Class(negated, tuple(ranges)), at + 1


def _bound(pattern: str, at: int) -> tuple[int, int]:
    char = pattern[at : at + 1]
    if char in {"", "-", "]"}:
        raise PatternError("a '[' is not closed" if not char else f"'{char}' stands in a class without '\\'")
    if char == "\\":
        at += 1
        char = pattern[at : at + 1]
    if at + 1 >= len(pattern):
        raise PatternError("a '[' is not closed")
    if 0xD800 <= ord(char) <= 0xDFFF:
        raise PatternError("a class holds a byte that is not UTF-8")
    return ord(char), at + 1


def _code(char: str) -> int:
    # Go decodes a byte that is not UTF-8, which is a lone surrogate here, to the replacement character.
    return _REPLACEMENT if 0xD800 <= ord(char) <= 0xDFFF else ord(char)
