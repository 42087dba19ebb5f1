r"""`.dockerignore`, read as `docker build` reads it.

Sources: moby/patternmatcher (`ignorefile` for the lines, `patternmatcher` for the patterns) and the walk of
tonistiigi/fsutil, which asks it. A pattern is turned into the regular expression they turn it into, quirks included:
`[^a]` is "not a" but `[!a]` is "! or a", `\*` is a star, `**/` is any number of folders, a pattern that matches a
folder matches all below it, and the last pattern that matches a path wins. This is what Docker 23 and later do; the
clients before it send less where an exception begins with a wildcard (`*` then `!**/*.go`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from coordinator.errors import UsageError

# What Go's strings.TrimSpace removes; Python's strip takes four control characters more.
_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
_WILD = re.compile(r"[*\[\]?^\\]")
# Go's regular expressions know these after a backslash; what they mean there, for ASCII alone.
_CLASSES = {
    "d": "0-9", "D": "^0-9", "w": "0-9A-Za-z_", "W": "^0-9A-Za-z_", "s": r"\t\n\f\r ", "S": r"^\t\n\f\r ",
}  # fmt: skip
_ASSERTIONS = {"b": r"(?a:\b)", "B": r"(?a:\B)", "A": r"\A", "z": r"\Z"}
_CONTROLS = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the patterns say of one path: `matched` has one entry a pattern, for the paths below it."""

    ignored: bool
    matched: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class _Pattern:
    text: str
    exception: bool
    regex: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Matcher:
    """The patterns of one file, in order. Make one with `compile_ignore`.

    Walking a tree, ask `verdict` for each path with the verdict on the folder it lies in; an ignored folder needs a
    visit only where `may_reinclude` says so.
    """

    patterns: tuple[_Pattern, ...] = field(repr=False)

    def verdict(self, path: str, above: Verdict | None = None) -> Verdict:
        """`path` is relative to the context, with `/` between its parts; `above` is `None` at the context's top."""
        ignored = False
        matched = []
        for index, pattern in enumerate(self.patterns):
            match = above is not None and above.matched[index]
            # A pattern that could not change anything is not asked, and counts as no match for what lies below.
            if not match and pattern.exception == ignored:
                match = pattern.regex.match(path) is not None
            matched.append(match)
            if match:
                ignored = not pattern.exception
        return Verdict(ignored, tuple(matched))

    def ignores(self, path: str) -> bool:
        """Whether this path stays home. A folder that is ignored is still sent when something below it is not."""
        found = None
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            found = self.verdict("/".join(parts[:count]), found)
        return found is not None and found.ignored

    def may_reinclude(self, directory: str) -> bool:
        """Whether anything below this ignored folder could be sent after all."""
        exceptions = [_fixed_part(pattern.text) for pattern in self.patterns if pattern.exception]
        if any(_WILD.search(text) for text in exceptions):
            return True
        return any(f"{text}/".startswith(f"{directory}/") for text in exceptions)


def compile_ignore(text: str, path: str = ".dockerignore") -> Matcher:
    """The matcher of a file's text; an empty text ignores nothing. `path` is for messages.

    Raises UsageError, with the line, for a pattern that `docker build` refuses.
    """
    return Matcher(tuple(_compile(pattern, f"{path}:{line}") for line, pattern in _lines(text)))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        # Only a line that begins with it is a comment: ` #a` is a pattern.
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
    """Go's filepath.Clean: the shortest spelling of the same path."""
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
        raise _refused(where, text, "a '[' or '\\' is not complete")
    try:
        return _Pattern(pattern, exception, re.compile(_translate(pattern)))
    except _SyntaxError as error:
        raise _refused(where, text, str(error)) from error


def _refused(where: str, text: str, why: str) -> UsageError:
    return UsageError(
        f"{where}: invalid pattern '{text}': {why}",
        hint="folders are parted by '/', and a backslash before a character takes its meaning away: \\[ is a bracket",
        code="ignore",
    )


class _SyntaxError(Exception):
    """The pattern gives a regular expression that Go refuses."""


def _well_formed(pattern: str) -> bool:
    """Whether Go's filepath.Match takes it when asked about `.`, as every pattern is first.

    It looks as far as the first star after something that is not `.`.
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
    """The index of the closing bracket; -1 where filepath.Match finds none, or a bound of a range missing."""
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
    # A class has to go on after a bound, if only to be closed.
    return at if at < len(pattern) else -1


def _translate(pattern: str) -> str:
    """Python's spelling of the expression patternmatcher matches a whole path with.

    Patternmatcher copies a bracket as it stands but goes on replacing wildcards inside it, so the expression is
    made as text first and read as Go would read it afterwards.
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
    found = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and pattern.startswith("*", at):
            at += 1
            at += pattern.startswith("/", at)
            found.append(".*" if at == len(pattern) else "(.*/)?")
        elif char in "*?":
            found.append("[^/]*" if char == "*" else "[^/]")
        elif char == "\\":
            found.append(pattern[at - 1 : at + 1])
            at += 1
        else:
            found.append(f"\\{char}" if char in ".+()|{}$" else char)
    return "".join(found)


def _python(expression: str) -> str:
    """The same expression for Python's `re`: only what `_go_expression` writes has to be understood."""
    found = []
    at = 0
    while at < len(expression):
        char = expression[at]
        if char == "\\":
            found.append(_escape(expression[at + 1 : at + 2]))
            at += 2
        elif char == "[":
            text, at = _class(expression, at + 1)
            found.append(text)
        else:
            # A bare `]` is itself; everything else is an operator, or means the same to both.
            found.append(char if char in "^.*?()" else re.escape(char))
            at += 1
    return "".join(found)


def _escape(char: str) -> str:
    if char in _CLASSES:
        return f"[{_CLASSES[char]}]"
    return _ASSERTIONS.get(char) or re.escape(_literal(char))


def _literal(char: str) -> str:
    if char in _CONTROLS:
        return _CONTROLS[char]
    if not char or not char.isascii() or char.isalnum():
        raise _SyntaxError(f"'\\{char}' means nothing")
    return char


def _class(expression: str, at: int) -> tuple[str, int]:
    """A bracket expression that begins before `at`, and the index after it."""
    negated = expression.startswith("^", at)
    at += negated
    members: list[str] = []
    while not members or not expression.startswith("]", at):
        low, at = _member(expression, at)
        if len(low) == 1 and expression.startswith("-", at) and not expression.startswith("-]", at):
            high, at = _member(expression, at + 1)
            if len(high) != 1 or high < low:
                raise _SyntaxError(f"'{low}-{high}' is no range")
            members.append(f"{_quoted(low)}-{_quoted(high)}")
        else:
            members.append(_quoted(low) if len(low) == 1 else low)
    inside = "".join(members)
    return f"[{'^' if negated else ''}{inside}]", at + 1


def _member(expression: str, at: int) -> tuple[str, int]:
    """One member of a bracket expression: a character, or the text of a class."""
    if at >= len(expression):
        raise _SyntaxError("a '[' is not closed")
    if expression.startswith("[:", at) and ":]" in expression[at:]:
        raise _SyntaxError("named classes are not understood")
    if expression[at] != "\\":
        return expression[at], at + 1
    char = expression[at + 1 : at + 2]
    if char in _CLASSES and not char.isupper():
        return _CLASSES[char], at + 2
    return _literal(char), at + 2


def _quoted(char: str) -> str:
    # Python reserves doubled operators inside a bracket; quoted, nothing is one.
    return char if char.isalnum() else re.escape(char) if char != "/" else char
