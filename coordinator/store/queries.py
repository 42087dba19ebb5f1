"""Load the project's SQL: the schema as single statements, the queries by name."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# Not by importlib.resources, whose import takes longer than all reading.
_FOLDER = Path(__file__).parent
_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def schema(after: int, version: int) -> Iterator[str]:
    """Yield the statements that migrate a store from version `after` to `version`; 0 is an empty file.

    Single statements, because `executescript` would commit the surrounding transaction.
    """
    for step in range(after + 1, version + 1):
        statement = ""
        for line in (_FOLDER / "schema" / f"{step}.sql").read_text("utf-8").splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                yield statement
                statement = ""


@cache
def queries() -> dict[str, str]:
    """Return every query of `queries.sql` by name."""
    parts = _NAME.split((_FOLDER / "queries.sql").read_text("utf-8"))
    return dict(zip(parts[1::2], parts[2::2], strict=True))
