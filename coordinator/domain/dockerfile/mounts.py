"""The value of `RUN --mount`: fields of CSV, as Go's encoding/csv reads them, each `key=value` or a bare key.

A field in double quotes may hold commas, and `""` for a quote. Keys have any case, and a later one replaces an earlier.

Source: moby/buildkit `frontend/dockerfile/instructions/commands_runmount.go`, https://pkg.go.dev/encoding/csv.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_ALIASES = {"src": "source", "dst": "target", "destination": "target"}


class MountError(Exception):
    """The value is not a line of CSV; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The value of one key. `start` and `end` are where it stands in the mount's text, quotes not included."""

    value: str
    start: int
    end: int


def settings(text: str) -> dict[str, Setting]:
    """Return the settings of one mount by key: in lower case, with `source` for `src` and `target` for `dst`.

    A bare key has an empty value. Raises MountError.
    """
    found: dict[str, Setting] = {}
    for field, start, end in _fields(text):
        key, equals, value = field.partition("=")
        key = key.lower()
        # A doubled quote makes a field longer in the text than it is. Names of images, which are replaced, have none.
        at = start + len(key) + len(equals)
        found[_ALIASES.get(key, key)] = Setting(value, at, end)
    return found


def _fields(text: str) -> Iterator[tuple[str, int, int]]:
    at = 0
    while True:
        if text.startswith('"', at):
            field, end = _quoted(text, at + 1)
            yield field, at + 1, end
            at = end + 1
        else:
            end = text.find(",", at)
            end = len(text) if end < 0 else end
            if '"' in text[at:end]:
                raise MountError("a quote stands inside a field that does not begin with one")
            yield text[at:end], at, end
            at = end
        if at == len(text):
            return
        if text[at] != ",":
            raise MountError("text follows a closing quote")
        at += 1


def _quoted(text: str, at: int) -> tuple[str, int]:
    """Return the field whose opening quote is just before `at`, and the index of its closing quote."""
    start = at
    while True:
        end = text.find('"', at)
        if end < 0:
            raise MountError("a quote is not closed")
        if not text.startswith('""', end):
            return text[start:end].replace('""', '"'), end
        at = end + 2
