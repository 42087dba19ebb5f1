"""Commands with commands of their own: each lives in the module of its name, and one of them needs no name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

import click


class LazyGroup(click.Group):
    """`modules` names the modules of `package` by command. `default` is meant where `is_command` says of the first word
    that it is none; where there is no word at all it always is.
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
        found: click.Command = importlib.import_module(f"{self._package}.{self._modules[cmd_name]}").command
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        asks_for_help = any(word in ctx.help_option_names for word in args[:1])
        if not asks_for_help and not any(map(self._is_command, args[:1])):
            args = [self._default, *args]
        return super().parse_args(ctx, args)
