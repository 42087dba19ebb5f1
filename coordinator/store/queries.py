"""Finds the project's SQL: the schema step by step, the queries one by one by name."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def schema(after: int, version: int) -> str:
    """What takes a store of version `after` to `version`; 0 is an empty file."""
    folder = files(__package__).joinpath("schema")
    return "\n".join(folder.joinpath(f"{step}.sql").read_text("utf-8") for step in range(after + 1, version + 1))


@cache
def queries() -> dict[str, str]:
    """Every query of `queries.sql` under its name."""
    parts = _NAME.split(files(__package__).joinpath("queries.sql").read_text("utf-8"))
    return dict(zip(parts[1::2], parts[2::2], strict=True))
