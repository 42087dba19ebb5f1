r"""`.dockerignore`, matched as `docker build` matches it.

Sources: moby/patternmatcher (`ignorefile` for the lines, `patternmatcher` for the patterns) and the directory walk of
tonistiigi/fsutil, which uses it. A pattern becomes the same regular expression as in patternmatcher, quirks included:
`[^a]` is "not a" but `[!a]` is "! or a", `\*` is a literal star, `**/` is any number of folders, a pattern that matches
a folder matches everything below it, and the last pattern that matches a path wins. Docker 23 and later behave like
this; older clients send fewer files where an exception begins with a wildcard (`*` then `!**/*.go`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from coordinator.errors import UsageError

# The characters that Go's strings.TrimSpace removes; Python's str.strip removes four more control characters.
_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
_WILD = re.compile(r"[*\[\]?^\\]")
# Escapes of Go's regular expressions, translated for Python. In Go they cover ASCII only.
_CLASSES = {
    "d": "0-9", "D": "^0-9", "w": "0-9A-Za-z_", "W": "^0-9A-Za-z_", "s": r"\t\n\f\r ", "S": r"^\t\n\f\r ",
}  # fmt: skip
_ASSERTIONS = {"b": r"(?a:\b)", "B": r"(?a:\B)", "A": r"\A", "z": r"\Z"}
_CONTROLS = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for one path. `matched` has one entry per pattern and is used for the paths below this one."""

    ignored: bool
    matched: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class _Pattern:
    text: str
    exception: bool
    regex: re.Pattern[str]
    where: str


@dataclass(frozen=True, slots=True)
class Matcher:
    """The patterns of the file at `path`, in order. Make one with `compile_ignore`.

    To walk a tree, call `verdict` for each path with the verdict of its parent folder. An ignored folder must be
    visited only where `may_reinclude` returns True.
    """

    patterns: tuple[_Pattern, ...] = field(repr=False)
    path: str = ".dockerignore"

    def verdict(self, path: str, above: Verdict | None = None) -> Verdict:
        """Return the verdict for `path`, relative to the context with `/` as separator.

        `above` is the verdict of the parent folder, `None` at the top of the context.
        """
        ignored = False
        matched = []
        for index, pattern in enumerate(self.patterns):
            match = above is not None and above.matched[index]
            # As in patternmatcher: a pattern that cannot change the result is skipped, and counts as no match below.
            if not match and pattern.exception == ignored:
                match = pattern.regex.match(path) is not None
            matched.append(match)
            if match:
                ignored = not pattern.exception
        return Verdict(ignored, tuple(matched))

    def ignores(self, path: str) -> bool:
        """Return whether this path is ignored. An ignored folder is still sent where a path below it is not ignored."""
        verdict = None
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            verdict = self.verdict("/".join(parts[:count]), verdict)
        return verdict is not None and verdict.ignored

    def reason(self, path: str) -> str:
        """Return file and line of the pattern that ignores this path, as `.dockerignore:3`; empty where none does."""
        verdict = None
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            verdict = self.verdict("/".join(parts[:count]), verdict)
        if verdict is None or not verdict.ignored:
            return ""
        return next(
            pattern.where
            for pattern, matched in zip(reversed(self.patterns), reversed(verdict.matched), strict=True)
            if matched and not pattern.exception
        )

    def may_reinclude(self, directory: str) -> bool:
        """Return whether an exception may match a path below this ignored folder."""
        exceptions = [_fixed_part(pattern.text) for pattern in self.patterns if pattern.exception]
        if any(_WILD.search(text) for text in exceptions):
            return True
        return any(f"{text}/".startswith(f"{directory}/") for text in exceptions)


def compile_ignore(text: str, path: str = ".dockerignore") -> Matcher:
    """Compile the text of a `.dockerignore`. An empty text ignores nothing. `path` is for messages.

    Raises UsageError, with the line, for a pattern that `docker build` rejects.
    """
    return Matcher(tuple(_compile(pattern, f"{path}:{line}") for line, pattern in _lines(text)), path)


def compile_include(pattern: str) -> Matcher:
    """Compile one pattern that includes: a path that it matches, and all below, has the verdict `ignored`.

    A leading `!` is a character of the pattern. Raises UsageError for a pattern that BuildKit rejects.
    """
    return Matcher((_compile(f"\\{pattern}" if pattern.startswith("!") else pattern, pattern),))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        # A comment begins with `#` in the first column: ` #a` is a pattern.
        if line.startswith("#"):
            continue
        pattern = line.strip(_SPACE)
        if pattern.startswith("!"):
            yield number, "!" + _relative(pattern[1:].strip(_SPACE))
        elif pattern:
            yield number, _relative(pattern)


def _relative(pattern: str) -> str:
    if not pattern:
        return pattern
    cleaned = _clean(pattern)
    return cleaned[1:] if len(cleaned) > 1 and cleaned.startswith("/") else cleaned


def _clean(path: str) -> str:
    """Return the shortest equivalent path, as Go's filepath.Clean does."""
    rooted = path.startswith("/")
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part == ".." and rooted:
            continue
        elif part not in {"", "."}:
            parts.append(part)
    return ("/" if rooted else "") + "/".join(parts) or "."


def _fixed_part(text: str) -> str:
    return text.removesuffix("/**").removesuffix("/*")


def _compile(text: str, where: str) -> _Pattern:
    exception = text.startswith("!")
    pattern = _clean(text)[1:] if exception else _clean(text)
    if not pattern:
        raise _refused(where, text, "there is nothing after '!'")
    if not _well_formed(pattern):
        raise _refused(where, text, "a '[' or '\\' is incomplete")
    try:
        return _Pattern(pattern, exception, re.compile(_translate(pattern)), where)
    except _SyntaxError as error:
        raise _refused(where, text, str(error)) from error


def _refused(where: str, text: str, why: str) -> UsageError:
    return UsageError(
        f"{where}: invalid pattern '{text}': {why}",
        hint="separate folders with '/', and write a backslash before a special character: \\[ is a bracket",
        code="ignore",
    )


class _SyntaxError(Exception):
    """The pattern becomes a regular expression that Go rejects."""


def _well_formed(pattern: str) -> bool:
    """Return whether Go's filepath.Match accepts the pattern for the path `.`: patternmatcher's syntax check.

    For this path, Match reads the pattern up to the first star that follows anything other than `.`.
    """
    start = re.match(r"(?:[.?](?=\*))?\**", pattern)
    at = start.end() if start else 0
    while at < len(pattern) and pattern[at] != "*":
        if pattern[at] == "\\":
            at += 1
            if at == len(pattern):
                return False
        elif pattern[at] == "[":
            at = _end_of_class(pattern, at + 1)
            if at < 0:
                return False
        at += 1
    return True


def _end_of_class(pattern: str, at: int) -> int:
    """Return the index of the closing bracket, -1 where filepath.Match finds none or a range lacks a bound."""
    at += pattern.startswith("^", at)
    members = 0
    while not (members and pattern.startswith("]", at)):
        at = _after_bound(pattern, at)
        if at > 0 and pattern.startswith("-", at):
            at = _after_bound(pattern, at + 1)
        if at < 0:
            return -1
        members += 1
    return at


def _after_bound(pattern: str, at: int) -> int:
    if pattern[at : at + 1] in {"", "-", "]"}:
        return -1
    at += 2 if pattern[at] == "\\" else 1
    # At least the closing bracket must follow a bound.
    return at if at < len(pattern) else -1


def _translate(pattern: str) -> str:
    """Return, in Python syntax, the regular expression that patternmatcher matches against a whole path.

    Patternmatcher copies a bracket unchanged but also replaces wildcards inside it. So the expression is first built
    as text and then parsed by Go's rules.
    """
    if not _WILD.search(pattern.replace("^", "")):
        return re.escape(pattern) + r"\Z"
    if pattern.endswith("**") and not _WILD.search(pattern[:-2].replace("^", "")):
        return re.escape(pattern[:-2])
    if pattern.startswith("**") and not _WILD.search(pattern[2:].replace("^", "")):
        start = "(?s:.*/)?" if pattern.startswith("**/") else "(?s:.*)"
        return start + re.escape(pattern[2:].removeprefix("/")) + r"\Z"
    return _python(_go_expression(pattern)) + r"\Z"


def _go_expression(pattern: str) -> str:
    pieces = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and pattern.startswith("*", at):
            at += 1
            at += pattern.startswith("/", at)
            pieces.append(".*" if at == len(pattern) else "(.*/)?")
        elif char in "*?":
            pieces.append("[^/]*" if char == "*" else "[^/]")
        elif char == "\\":
            pieces.append(pattern[at - 1 : at + 1])
            at += 1
        else:
            pieces.append(f"\\{char}" if char in ".+()|{}$" else char)
    return "".join(pieces)


def _python(expression: str) -> str:
    """Translate a Go expression for Python's `re`. Only the syntax that `_go_expression` writes is supported."""
    pieces = []
    at = 0
    while at < len(expression):
        char = expression[at]
        if char == "\\":
            pieces.append(_escape(expression[at + 1 : at + 2]))
            at += 2
        elif char == "[":
            text, at = _class(expression, at + 1)
            pieces.append(text)
        else:
            # A bare `]` is a literal; any other character is an operator or means the same in Go and Python.
            pieces.append(char if char in "^.*?()" else re.escape(char))
            at += 1
    return "".join(pieces)


def _escape(char: str) -> str:
    if char in _CLASSES:
        return f"[{_CLASSES[char]}]"
    return _ASSERTIONS.get(char) or re.escape(_literal(char))


def _literal(char: str) -> str:
    if char in _CONTROLS:
        return _CONTROLS[char]
    if not char or not char.isascii() or char.isalnum():
        raise _SyntaxError(f"'\\{char}' is not an escape")
    return char


def _class(expression: str, at: int) -> tuple[str, int]:
    """Return the bracket expression whose `[` is just before `at`, and the index after it."""
    negated = expression.startswith("^", at)
    at += negated
    members: list[str] = []
    while not members or not expression.startswith("]", at):
        low, at = _member(expression, at)
        if len(low) == 1 and expression.startswith("-", at) and not expression.startswith("-]", at):
            high, at = _member(expression, at + 1)
            if len(high) != 1 or high < low:
                raise _SyntaxError(f"'{low}-{high}' is not a range")
            members.append(f"{_quoted(low)}-{_quoted(high)}")
        else:
            members.append(_quoted(low) if len(low) == 1 else low)
    inside = "".join(members)
    return f"[{'^' if negated else ''}{inside}]", at + 1


def _member(expression: str, at: int) -> tuple[str, int]:
    """Return one member of a bracket expression (a character, or the text of a class) and the index after it."""
    if at >= len(expression):
        raise _SyntaxError("a '[' is not closed")
    if expression.startswith("[:", at) and ":]" in expression[at:]:
        raise _SyntaxError("named classes are not supported")
    if expression[at] != "\\":
        return expression[at], at + 1
    char = expression[at + 1 : at + 2]
    if char in _CLASSES and not char.isupper():
        return _CLASSES[char], at + 2
    return _literal(char), at + 2


def _quoted(char: str) -> str:
    # Python reserves `--`, `&&`, `~~` and `||` inside brackets for set operations: escape them.
    return char if char.isalnum() else re.escape(char) if char != "/" else char
