"""Finds the project's SQL by name: the schema whole, the queries one by one."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def schema() -> str:
    return files(__package__).joinpath("schema.sql").read_text("utf-8")


@cache
def queries() -> dict[str, str]:
    """Every query of `queries.sql` under its name."""
    parts = _NAME.split(files(__package__).joinpath("queries.sql").read_text("utf-8"))
    return dict(zip(parts[1::2], parts[2::2], strict=True))
