"""`archloom boards`: the hosts of the inventory, looked at, added and removed.

Without a word of its own it shows them, all or those named; a subcommand lives in the module of its name.
"""

from __future__ import annotations

import importlib

import click

_COMMANDS = {"show": "show", "add": "add", "remove": "remove", "trust": "trust", "import": "import_"}


class _Boards(click.Group):
    """A group whose first word may also be a host: `archloom boards pi5` shows that one."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"{__name__}.{_COMMANDS[cmd_name]}").command
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        asks_for_help = any(word in ctx.help_option_names for word in args[:1])
        if not asks_for_help and (not args or args[0] not in _COMMANDS):
            args = ["show", *args]
        return super().parse_args(ctx, args)


command = _Boards(help="Show the hosts and what they can build; add, remove and import them.")
