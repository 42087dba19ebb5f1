"""`archloom boards import`: print inventory entries for the machines that other tools list."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coordinator.cli.output import print_data, print_json, print_message
from coordinator.errors import UsageError

if TYPE_CHECKING:
    from coordinator.config.imports.found import Found

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
_STDIN = "-"


@click.group(epilog="\b\nExample:\n  archloom boards import ssh-config > inventory.yaml")
def command() -> None:
    """Print inventory entries for hosts that other tools know.

    Nothing is changed and no host is contacted. Entries go to stdout; what was left out, and why, goes to stderr.
    """


@command.command("ssh-config", epilog="\b\nExample:\n  archloom boards import ssh-config > inventory.yaml")
@click.argument("file", required=False)
@_AS_JSON
def ssh_config(file: str | None, *, as_json: bool) -> None:
    """Hosts of ~/.ssh/config, or of FILE."""
    from coordinator.config.imports import ssh_config as source

    _print(source.read(_path(file) if file else None, Path.home()), as_json=as_json)


@command.command("ansible", epilog="\b\nExample:\n  ansible-inventory --list | archloom boards import ansible -")
@click.argument("file")
@_AS_JSON
def ansible(file: str, *, as_json: bool) -> None:
    """Hosts of an Ansible inventory.

    FILE is INI, YAML, or what `ansible-inventory --list` prints; - is standard input.
    """
    from coordinator.config.imports import ansible as source
    from coordinator.config.imports import files

    if file == _STDIN:
        label = "standard input"
        imported = source.parse(files.decoded(sys.stdin.buffer.read(), label), label)
    else:
        imported = source.read(_path(file), Path.home())
    _print(imported, as_json=as_json)


@command.command("buildx", epilog="\b\nExample:\n  archloom boards import buildx")
@_AS_JSON
def buildx(*, as_json: bool) -> None:
    """Nodes of docker buildx's builders.

    They are read from BUILDX_CONFIG, DOCKER_CONFIG or ~/.docker.
    """
    from coordinator.config.imports import buildx as source

    _print(source.read(os.environ, Path.home()), as_json=as_json)


@command.command("podman", epilog="\b\nExample:\n  archloom boards import podman")
@_AS_JSON
def podman(*, as_json: bool) -> None:
    """Connections and farms of podman.

    They are read from PODMAN_CONNECTIONS_CONF, CONTAINERS_CONF and ~/.config/containers.
    """
    from coordinator.config.imports import podman as source

    _print(source.read(os.environ, Path.home()), as_json=as_json)


def _path(file: str) -> Path:
    return Path.cwd() / Path(file).expanduser()


def _print(found: Found, *, as_json: bool) -> None:
    from coordinator.config.imports import render
    from coordinator.config.imports.entries import entries

    rendered = entries(found)
    for note in rendered.notes:
        print_message("note: " + note.replace("\n", "\n      "))
    if not rendered.boards and not rendered.emulators:
        hint = "add one yourself: archloom boards add USER@HOST"
        raise UsageError(f"{rendered.source} has no host that archloom can use", hint=hint, code="import")
    if as_json:
        print_json(render.document(rendered))
    else:
        print_data(render.yaml_text(rendered))
