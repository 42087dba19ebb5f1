"""YAML syntax errors as messages for a user who does not know the YAML grammar.

An unknown error keeps the parser's message: no code depends on its text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ruamel.yaml.error import MarkedYAMLError

_SENTENCES: tuple[tuple[str, str], ...] = (
    (r"found character '(?P<char>[@`%])'", "a value that begins with {char} needs quotes"),
    (
        r"mapping values are not allowed here",
        "unexpected ':': check the line above and the indentation, or quote the value",
    ),
    (r"sequence entries are not allowed here", "a list must begin on its own line"),
    (r"could not find expected ':'", "this is neither `key: value` nor part of a list: is a ':' or a quote missing?"),
    (r"found undefined alias '?(?P<name>[^']*)'?", "*{name} is used, and no &{name} comes before it"),
    (r"expected <block end>", "the indentation does not fit the lines above"),
    (r"but found another document", "the file may hold only one document: remove the '---' or '...'"),
    (r"found unknown escape character '(?P<char>.)'", "\\{char} is not an escape in double quotes: use single quotes"),
    (r"expected the node content, but found '(?P<char>.)'", "'{char}' cannot begin a value: quote it"),
)
# An unclosed quote or bracket is reported where it opens: it has no end.
_UNCLOSED: tuple[tuple[str, str], ...] = (
    (r"found unexpected end of stream", "unclosed quote"),
    (r"expected ',' or '(?P<close>.)'", "unclosed bracket: ',' or '{close}' is missing"),
)


def sentence(error: MarkedYAMLError, text: str) -> tuple[int, int, str]:
    """Return line and column, both from 1, and the message."""
    problem = error.problem or error.context or "this is not YAML"
    line, column = _place(error.problem_mark or error.context_mark)
    lines = text.splitlines()
    if line <= len(lines) and re.match(r" *\t", lines[line - 1]):
        return line, column, "a tab cannot indent YAML: use spaces"
    words = _words(_UNCLOSED, problem)
    if words and error.context_mark:
        return *_place(error.context_mark), words
    return line, column, _words(_SENTENCES, problem) or problem


def _place(mark: object) -> tuple[int, int]:
    from ruamel.yaml.error import StreamMark

    return (mark.line + 1, mark.column + 1) if isinstance(mark, StreamMark) else (1, 1)


def _words(table: tuple[tuple[str, str], ...], problem: str) -> str:
    for pattern, words in table:
        match = re.match(pattern, problem)
        if match:
            return words.format(**match.groupdict())
    return ""
