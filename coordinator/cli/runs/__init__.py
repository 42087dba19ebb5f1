"""`archloom runs`: the runs this machine remembers, listed and forgotten.

Without a subcommand they are listed; a subcommand lives in the module of its name.
"""

from __future__ import annotations

import importlib

import click

_COMMANDS = ("list", "prune")


class _Runs(click.Group):
    """A group that lists where no subcommand is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"{__name__}.{cmd_name}").command
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        asks_for_help = any(word in ctx.help_option_names for word in args[:1])
        if not asks_for_help and (not args or args[0].startswith("-")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


command = _Runs(help="List the latest runs; forget old ones.")
