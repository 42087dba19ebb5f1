"""`archloom runs`: list and delete the runs in the store of this coordinator."""

from __future__ import annotations

from coordinator.cli.groups import LazyGroup

command = LazyGroup(
    __name__,
    {"list": "list", "prune": "prune"},
    default="list",
    is_command=lambda word: not word.startswith("-"),
    about="List the latest runs; delete old ones.",
)
