"""Load the project's SQL: the schema as single statements, the queries by name."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def schema(after: int, version: int) -> Iterator[str]:
    """Yield the statements that migrate a store from version `after` to `version`; 0 is an empty file.

    Single statements, because `executescript` would commit the surrounding transaction.
    """
    folder = files(__package__).joinpath("schema")
    for step in range(after + 1, version + 1):
        statement = ""
        for line in folder.joinpath(f"{step}.sql").read_text("utf-8").splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                yield statement
                statement = ""


@cache
def queries() -> dict[str, str]:
    """Return every query of `queries.sql` by name."""
    parts = _NAME.split(files(__package__).joinpath("queries.sql").read_text("utf-8"))
    return dict(zip(parts[1::2], parts[2::2], strict=True))
