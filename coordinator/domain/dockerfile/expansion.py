"""Expand a Dockerfile's words: variables, quotes and escapes, as BuildKit's `shell.Lex` does.

Source: moby/buildkit `frontend/dockerfile/shell/lex.go` and `parser/line_parsers.go`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_NAME = re.compile(r"\d+|[@*#?$!-]|\w*")
_OPERATORS = ("-", "+", "?", "#", "%")


class ExpansionError(Exception):
    """The word cannot be expanded; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class Expanded:
    """An expanded word. `unset` names the variables without a value, in order."""

    text: str
    unset: tuple[str, ...] = ()


def expand(word: str, values: Mapping[str, str], escape: str) -> Expanded:
    """Replace the variables of a word and remove its quotes and escapes.

    Raises ExpansionError for what BuildKit rejects: an unmatched quote, `${}`, a failed `${X:?}`.
    """
    lexer = _Lexer(word, values, escape)
    return Expanded(lexer.until("", keep_escapes=False), tuple(dict.fromkeys(lexer.unset)))


def split_quoted(text: str, escape: str) -> list[str]:
    """Split text at whitespace outside quotes, as BuildKit splits ARG and ENV. Words keep their quotes and escapes."""
    pieces: list[str] = []
    word, quote, at = "", "", 0
    while at < len(text):
        char = text[at]
        if char == escape and quote != "'" and at + 1 < len(text):
            word += text[at : at + 2]
            at += 2
            continue
        if not quote and char.isspace():
            pieces.append(word)
            word = ""
        else:
            if quote:
                quote = "" if char == quote else quote
            elif char in "'\"":
                quote = char
            word += char
        at += 1
    return [piece for piece in (*pieces, word) if piece]


@dataclass(slots=True)
class _Lexer:
    word: str
    values: Mapping[str, str]
    escape: str
    at: int = 0
    unset: list[str] = field(default_factory=list)

    def until(self, stop: str, *, keep_escapes: bool) -> str:
        """Return the text up to `stop`, and skip `stop`. An empty `stop` means the end of the word."""
        pieces: list[str] = []
        while self.at < len(self.word):
            char = self.word[self.at]
            if char == stop:
                self.at += 1
                return "".join(pieces)
            if char == "'":
                pieces.append(self._single_quoted())
            elif char == '"':
                pieces.append(self._double_quoted(keep_escapes=keep_escapes))
            elif char == "$":
                pieces.append(self._dollar())
            elif char == self.escape:
                pieces.append((char if keep_escapes else "") + self.word[self.at + 1 : self.at + 2])
                self.at += 2
            else:
                pieces.append(char)
                self.at += 1
        if stop:
            raise ExpansionError(f"'{stop}' is missing")
        return "".join(pieces)

    def _single_quoted(self) -> str:
        end = self.word.find("'", self.at + 1)
        if end < 0:
            raise ExpansionError("a single quote is not closed")
        text = self.word[self.at + 1 : end]
        self.at = end + 1
        return text

    def _double_quoted(self, *, keep_escapes: bool) -> str:
        pieces: list[str] = []
        self.at += 1
        while self.at < len(self.word):
            char = self.word[self.at]
            if char == '"':
                self.at += 1
                return "".join(pieces)
            if char == "$":
                pieces.append(self._dollar())
                continue
            self.at += 1
            if char == self.escape:
                following = self.word[self.at : self.at + 1]
                if following and following in ('"', "$", self.escape):
                    self.at += 1
                    char = (char if keep_escapes else "") + following
            pieces.append(char)
        raise ExpansionError("a double quote is not closed")

    def _dollar(self) -> str:
        self.at += 1
        if not self.word.startswith("{", self.at):
            name = self._name()
            return self._value(name) if name else "$"
        self.at += 1
        name = self._name()
        operator = self.word[self.at : self.at + 1]
        if not operator:
            raise ExpansionError("'}' is missing")
        self.at += 1
        if not name:
            raise ExpansionError("bad substitution")
        if operator == "}":
            return self._value(name)
        if operator == "/":
            return self._replaced(name)
        empty_is_unset = operator == ":"
        if empty_is_unset:
            operator = self.word[self.at : self.at + 1]
            self.at += 1
        if operator not in _OPERATORS:
            raise ExpansionError(f"'{operator}' is not a substitution operator")
        return self._operated(name, operator, empty_is_unset=empty_is_unset)

    def _operated(self, name: str, operator: str, *, empty_is_unset: bool) -> str:
        word = self.until("}", keep_escapes=operator in "#%")
        value = self.values.get(name)
        absent = value is None or (empty_is_unset and not value)
        if operator == "-":
            return word if value is None or absent else value
        if operator == "+":
            return "" if absent else word
        if operator == "?":
            if value is None or absent:
                raise ExpansionError(f"{name}: {word or 'is required, but not set'}")
            return value
        return _trimmed(value or "", word, operator)

    def _replaced(self, name: str) -> str:
        everywhere = self.word.startswith("/", self.at)
        self.at += everywhere
        pattern = self.until("/", keep_escapes=True)
        replacement = self.until("}", keep_escapes=True)
        return re.sub(_glob(pattern), lambda _: replacement, self._value(name), count=0 if everywhere else 1)

    def _name(self) -> str:
        match = _NAME.match(self.word, self.at)
        name = match[0] if match else ""
        self.at += len(name)
        return name

    def _value(self, name: str) -> str:
        if name not in self.values:
            self.unset.append(name)
        return self.values.get(name, "")


def _trimmed(value: str, pattern: str, operator: str) -> str:
    """Remove what `pattern` matches at the start (`#`) or end (`%`) of `value`: the longest match if doubled."""
    greedy = pattern.startswith(operator)
    glob = re.compile(_glob(pattern[1:] if greedy else pattern))
    cuts = range(len(value) + 1)
    if operator == "#":
        cut = next((at for at in (reversed(cuts) if greedy else cuts) if glob.fullmatch(value[:at])), 0)
        return value[cut:]
    end = next((at for at in (cuts if greedy else reversed(cuts)) if glob.fullmatch(value[at:])), len(value))
    return value[:end]


def _glob(pattern: str) -> str:
    pieces = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            pieces.append(".*")
        elif char == "?":
            pieces.append(".")
        elif char == "\\":
            char = pattern[at : at + 1]
            at += 1
            if char not in ("*", "?", "\\", "}", "/"):
                raise ExpansionError(f"invalid escape '\\{char}'")
            pieces.append(re.escape(char))
        else:
            pieces.append(re.escape(char))
    return "".join(pieces)
