"""`archloom runs`: the runs this machine remembers, listed and forgotten."""

from __future__ import annotations

from coordinator.cli.groups import LazyGroup

command = LazyGroup(
    __name__,
    {"list": "list", "prune": "prune"},
    default="list",
    is_command=lambda word: not word.startswith("-"),
    about="List the latest runs; forget old ones.",
)
