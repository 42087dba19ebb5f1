"""The problems of a document, each with its position, reported in one error."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.errors import UsageError

_PLAIN_KEY = re.compile(r"[\w-]+\Z")
_MAX_QUOTE_CHARS = 60


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """`line` and `column` count from 1; `path` is the key path in the document, empty for the file as a whole."""

    line: int
    column: int
    path: str
    text: str

    def as_line(self, label: str) -> str:
        """Return `inventory.yaml:12:5: boards.pi5.jobs: expected …`."""
        return f"{label}:{self.line}:{self.column}: {self.path}{': ' if self.path else ''}{self.text}"


def refusal(label: str, problems: Sequence[Problem], hint: str = "") -> UsageError:
    """Return one error with all problems of a document, ordered by line, without duplicates."""
    lines = [problem.as_line(label) for problem in sorted(set(problems))]
    if len(lines) == 1:
        return UsageError(lines[0], hint=hint, code="config")
    return UsageError("\n".join([f"{len(lines)} problems in {label}", *lines]), hint=hint, code="config")


def path_text(keys: Sequence[str | int]) -> str:
    """Return `boards.pi5.platforms[0]`; a key that is not a plain word is quoted: `registries."nas.lan:5000"`."""
    text = ""
    for key in keys:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += f"{'.' if text else ''}{key if _PLAIN_KEY.match(key) else json.dumps(key, ensure_ascii=False)}"
    return text


def found(value: object) -> str:
    """Return a short description of the value for an error message, without control characters."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return repr(value if len(value) <= _MAX_QUOTE_CHARS else f"{value[:_MAX_QUOTE_CHARS]}…")
        case dict():
            return "a map" if value else "an empty map"
        case list():
            return "a list" if value else "an empty list"
        case _:
            return str(value)
