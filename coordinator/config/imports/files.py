"""Read files of other tools, whose structure is not guaranteed."""

from __future__ import annotations

import json
from pathlib import Path

from coordinator.config import locate
from coordinator.errors import UsageError
from coordinator.regular_files import read_file


def shown(path: Path, home: Path) -> str:
    """Return the path for messages: with `~` in the home folder, else relative where possible."""
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else locate.label(path)


def text(path: Path, label: str, hint: str) -> str:
    """Return the text in this file. Raises UsageError with this hint where it cannot be read."""
    try:
        return decoded(read_file(path), label)
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {label}", hint=hint, code="import") from error
    except IsADirectoryError as error:
        raise UsageError(f"{label} is a folder, not a file", hint=hint, code="import") from error
    except OSError as error:
        raise UsageError(f"cannot read {label}: {error.strerror}", hint=hint, code="import") from error


def decoded(raw: bytes, label: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"{label}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8"
        raise UsageError(message, hint="is this the right file? If so, save it as UTF-8", code="import") from error


def json_document(written: str, label: str, hint: str) -> object:
    """Return the JSON document in this text. Raises UsageError."""
    try:
        document: object = json.loads(written)
    except json.JSONDecodeError as error:
        raise UsageError(f"{label}:{error.lineno}: not JSON: {error.msg}", hint=hint, code="import") from error
    except RecursionError as error:
        raise UsageError(f"{label}: lists or maps are nested too deeply", hint=hint, code="import") from error
    return document


def members(value: object) -> dict[str, object]:
    """Return the members of a map, with text keys; empty for any other value."""
    return {str(key): member for key, member in value.items()} if isinstance(value, dict) else {}


def items(value: object) -> list[object]:
    """Return the items of a list; empty for any other value."""
    return list(value) if isinstance(value, list) else []


def word(value: object) -> str:
    """Return text without surrounding whitespace; whole numbers are text too, any other value is ''."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return ""
    return str(value).strip()
