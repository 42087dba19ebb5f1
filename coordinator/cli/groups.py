"""Commands with subcommands: each is in its own module, imported when needed, and one is the default."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

import click


class LazyGroup(click.Group):
    """A group whose subcommands are imported when needed. `modules` maps a subcommand to its module in `package`.

    `default` is the subcommand where there is no word, or where `is_command` returns False for the first word.
    """

    def __init__(
        self, package: str, modules: Mapping[str, str], *, default: str, is_command: Callable[[str], bool], about: str
    ) -> None:
        super().__init__(help=about)
        self._package = package
        self._modules = modules
        self._default = default
        self._is_command = is_command

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self._modules:
            return None
        subcommand: click.Command = importlib.import_module(f"{self._package}.{self._modules[cmd_name]}").command
        return subcommand

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        asks_for_help = any(word in ctx.help_option_names for word in args[:1])
        if not asks_for_help and not any(map(self._is_command, args[:1])):
            args = [self._default, *args]
        return super().parse_args(ctx, args)
