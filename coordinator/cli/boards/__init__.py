"""`archloom boards`: show, add and remove the hosts of the inventory.

A first word that is not a subcommand is a host: `archloom boards pi5` shows the host pi5.
"""

from __future__ import annotations

from coordinator.cli.groups import LazyGroup

_MODULES = {"show": "show", "add": "add", "remove": "remove", "trust": "trust", "import": "import_"}

command = LazyGroup(
    __name__,
    _MODULES,
    default="show",
    is_command=_MODULES.__contains__,
    about="Show the hosts and what they can build; add, remove and import them.",
)
