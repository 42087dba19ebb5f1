"""Parse a Dockerfile's text into instructions, with the offset in the file of every character of a word.

Lines are joined at the escape character into logical lines, as BuildKit's parser joins them: comments and blank lines
inside a continuation are dropped, and the body of a heredoc belongs to the instruction that opened it. Every character
of a logical line keeps its offset in the file, so a word can be replaced in place without any other change.

Source: moby/buildkit `frontend/dockerfile/parser` (`parser.go`, `directives.go`, `split_command.go`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from coordinator.errors import UsageError

_WORD = re.compile(r"[^\t\v\f\r ]+")
# White space in Go (`unicode.IsSpace`), which has no U+001C to U+001F, as `str.strip` and `str.isspace` do. Flags are
# read byte by byte, so that no other character is a blank there.
_ASCII_SPACE = "\t\n\v\f\r "
_SPACE = _ASCII_SPACE + "\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*\Z")
_DIRECTIVES = ("syntax", "escape", "check")
_HEREDOC = re.compile(r"\d*<<(-?)([^<]+)\Z")
# BuildKit `frontend/dockerfile/instructions/parse.go` (`parseOnBuild`).
NO_TRIGGERS = ("onbuild", "from", "maintainer")
_WITH_HEREDOC = ("run", "copy", "add")
# BuildKit `frontend/dockerfile/parser/parser.go` (`dispatch`). That of HEALTHCHECK follows its type.
_WITH_JSON = ("add", "cmd", "copy", "entrypoint", "run", "shell", "volume")
# A word of a shell line, which may contain quoted blanks. An unclosed quote matches as `unclosed`, not as a word.
_SHELL_WORD = re.compile(r"""(?:[^\s'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")+|(?P<unclosed>['"])|\\\Z""")
_QUOTED = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)""")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of an instruction. `offsets` are those of all its characters in the file, quotes included."""

    text: str
    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Flag:
    """`--name=value` before an instruction's arguments, without quotes and escapes. `word` is the whole flag."""

    name: str
    value: str
    word: Word


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction. `keyword` is in lower case and `line` counts from 1.

    `arguments` is the text after the flags; `words` are its parts between blanks. `trigger` is the instruction that an
    ONBUILD holds. `onbuild_of` names the image whose ONBUILD holds this one; its words have no offsets in the file.
    """

    keyword: str
    line: int
    flags: tuple[Flag, ...]
    words: tuple[Word, ...]
    arguments: str
    trigger: Instruction | None = None
    onbuild_of: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A parsed file. `escape` is its escape character."""

    escape: str
    instructions: tuple[Instruction, ...]


def wrong(path: str, line: int, message: str, hint: str) -> UsageError:
    """Return the error for a line of a Dockerfile."""
    return UsageError(f"{path}:{line}: {message}", hint=hint, code="dockerfile")


def read(text: str, path: str) -> Source:
    """Parse a Dockerfile's text into instructions. `path` is for messages.

    Raises UsageError for a repeated or invalid directive, for an unterminated heredoc, and for an instruction that
    ONBUILD may not hold.
    """
    lines = _Lines(text)
    directives = _directives(lines, path)
    escape = directives.get("escape", "\\")
    return Source(
        escape=escape,
        instructions=tuple(_instructions(lines, escape, path)),
    )


def is_heredoc(word: str) -> bool:
    """Return whether this word of COPY or ADD stands for the text that follows the instruction."""
    return _HEREDOC.match(word) is not None


def word_readings(instruction: Instruction) -> tuple[list[str], ...]:
    """Return the instruction's words, those of its JSON form where it is in that.

    There are two readings where text follows the JSON list: BuildKit before 0.15 drops that text, later ones read no
    JSON (https://github.com/moby/buildkit/pull/5107).
    """
    words = [word.text for word in instruction.words]
    listed, following = _json_list(instruction)
    if listed is None:
        return (words,)
    return (listed, words) if following else (listed,)


def _json_list(instruction: Instruction) -> tuple[list[str] | None, str]:
    """Return the strings of the JSON form, and the text after it; `None` where there is no list of strings."""
    text = instruction.arguments
    if instruction.keyword not in _WITH_JSON or not text.startswith("["):
        return None, text
    try:
        words, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        # Lists in lists are no JSON form either, however deep they are.
        return None, text
    return (words if all(isinstance(word, str) for word in words) else None), text[end:]


class _Lines:
    """The lines of a text without line endings, each with its offset, read forwards."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        if not self._lines[-1]:
            self._lines.pop()
        self._offset = 0
        self.number = 0

    def peek(self) -> str | None:
        if self.number == len(self._lines):
            return None
        line = self._lines[self.number]
        return line.removeprefix("\ufeff") if self.number == 0 else line

    def take(self) -> Word:
        line = self._lines[self.number]
        start = self._offset
        self._offset += len(line) + 1
        skip = 1 if self.number == 0 and line.startswith("\ufeff") else 0
        self.number += 1
        content = line.rstrip("\r")
        return Word(content[skip:], tuple(range(start + skip, start + len(content))))


def _directives(lines: _Lines, path: str) -> dict[str, str]:
    directives: dict[str, str] = {}
    while (line := lines.peek()) is not None:
        match = _DIRECTIVE.match(line.strip())
        name = match[1].lower() if match else ""
        if not match or name not in _DIRECTIVES:
            break
        lines.take()
        if name in directives:
            raise wrong(path, lines.number, f"a second '{name}' directive", "keep one of them")
        if name == "escape" and match[2] not in ("\\", "`"):
            raise wrong(path, lines.number, f"'{match[2]}' cannot be the escape character", "use \\ or `")
        directives[name] = match[2]
    return directives


def _instructions(lines: _Lines, escape: str, path: str) -> Iterator[Instruction]:
    continued = re.compile(rf"(?<!{re.escape(escape)}){re.escape(escape)}[ \t]*\Z")
    while lines.peek() is not None:
        first = lines.take()
        first = _part(first, len(first.text) - len(first.text.lstrip(_SPACE)), len(first.text))
        line = lines.number
        if not first.text or first.text.startswith("#"):
            continue
        parts = [first]
        while match := continued.search(parts[-1].text):
            parts[-1] = _part(parts[-1], 0, match.start())
            following = _continuation(lines)
            if following is None:
                break
            parts.append(following)
        logical = _stripped(_joined(parts))
        if logical.text:
            instruction = _with_trigger(logical, line, path)
            _skip_heredocs(lines, instruction, logical.text, path)
            yield instruction


def _continuation(lines: _Lines) -> Word | None:
    while lines.peek() is not None:
        line = lines.take()
        bare = line.text.strip(_SPACE)
        if bare and not bare.startswith("#"):
            return line
    return None


def _joined(parts: Sequence[Word]) -> Word:
    return Word("".join(part.text for part in parts), tuple(at for part in parts for at in part.offsets))


def _part(word: Word, start: int, end: int) -> Word:
    return Word(word.text[start:end], word.offsets[start:end])


def _stripped(word: Word) -> Word:
    start = len(word.text) - len(word.text.lstrip(_SPACE))
    return _part(word, start, max(start, len(word.text.rstrip(_SPACE))))


def _with_trigger(logical: Word, line: int, path: str) -> Instruction:
    instruction, rest = _instruction(logical, line)
    if instruction.keyword != "onbuild" or not rest.text:
        return instruction
    trigger, _ = _instruction(rest, line)
    if trigger.keyword in NO_TRIGGERS:
        hint = "write an instruction that a stage may have after FROM"
        raise wrong(path, line, f"ONBUILD may not hold {trigger.keyword.upper()}", hint)
    return replace(instruction, trigger=trigger)


def _instruction(logical: Word, line: int) -> tuple[Instruction, Word]:
    """Return the instruction without its trigger, and the text of its arguments."""
    keyword = _WORD.match(logical.text)
    end = keyword.end() if keyword else 0
    flags, at = _flags(logical, end)
    rest = _stripped(_part(logical, at, len(logical.text)))
    instruction = Instruction(
        keyword=logical.text[:end].lower(),
        line=line,
        flags=tuple(flags),
        words=tuple(_part(rest, *match.span()) for match in _WORD.finditer(rest.text)),
        arguments=rest.text,
    )
    return instruction, rest


def _flags(logical: Word, at: int) -> tuple[list[Flag], int]:
    """Return the flags from `at` on, and the index where the arguments begin."""
    text = logical.text
    flags: list[Flag] = []
    while True:
        while at < len(text) and text[at] in _ASCII_SPACE:
            at += 1
        if not text.startswith("--", at):
            return flags, at
        start = at
        value, at = _flag_word(text, at)
        if value == "--":
            return flags, at
        name, _, setting = value[2:].partition("=")
        flags.append(Flag(name, setting, Word(value, logical.offsets[start:at])))


def _flag_word(text: str, at: int) -> tuple[str, int]:
    """Return a word without quotes and escapes, and the index after it.

    The escape character is always `\\` in flags, whatever the directive.
    """
    value, quote = "", ""
    while at < len(text) and (quote or text[at] not in _ASCII_SPACE):
        char = text[at]
        if char == "\\":
            at += 1
            value += text[at : at + 1]
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        else:
            value += char
        at += 1
    return value, min(at, len(text))


def opens_heredoc(instruction: Instruction) -> bool:
    """Return whether the lines after this instruction belong to it."""
    return _may_open_heredoc(instruction) and bool(_heredocs((instruction.trigger or instruction).arguments))


def _may_open_heredoc(instruction: Instruction) -> bool:
    inner = instruction.trigger or instruction
    listed, following = _json_list(inner)
    return inner.keyword in _WITH_HEREDOC and (listed is None or bool(following))


def _skip_heredocs(lines: _Lines, instruction: Instruction, logical: str, path: str) -> None:
    if not _may_open_heredoc(instruction):
        return
    for name, tabs in _heredocs(logical):
        while (line := lines.peek()) is not None:
            lines.take()
            line = line.rstrip("\r")
            if (line.lstrip("\t") if tabs else line) == name:
                break
        else:
            hint = f"end it with a line that is only '{name}'"
            raise wrong(path, instruction.line, f"the heredoc '{name}' does not end", hint)


def _heredocs(logical: str) -> list[tuple[str, bool]]:
    """Return the terminators of the heredocs opened on this line, each with whether leading tabs are stripped."""
    heredocs = []
    for match in _SHELL_WORD.finditer(logical):
        if match["unclosed"]:
            return []
        opened = _HEREDOC.match(match[0])
        if opened:
            name = _QUOTED.sub(lambda part: part[1] or part[2] or part[3] or "", opened[2])
            heredocs.append((name, bool(opened[1])))
    return heredocs
