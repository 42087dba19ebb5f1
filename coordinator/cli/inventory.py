"""`archloom inventory`: check the inventory, or print its JSON schema."""

from __future__ import annotations

import os
from pathlib import Path

import click

from coordinator.cli.output import print_data, print_json
from coordinator.domain.hosts.inventory import Inventory, Kind


@click.group()
def command() -> None:
    """Check the inventory, or print its JSON schema."""


@command.command()
@click.option("-i", "--inventory", metavar="FILE", help="Inventory to check. (env: ARCHLOOM_INVENTORY)")
@click.option("--json", "as_json", is_flag=True, help="Print the hosts and registries as JSON.")
def check(inventory: str | None, *, as_json: bool) -> None:
    """Read the inventory and report every problem in it."""
    from coordinator.config.load import load
    from coordinator.config.locate import find

    loaded = load(find(inventory, os.environ, Path.cwd(), Path.home()))
    if as_json:
        print_json(
            {
                "source": loaded.source,
                "boards": [host.name for host in loaded.hosts if host.kind is Kind.BOARD],
                "emulators": [host.name for host in loaded.hosts if host.kind is Kind.EMULATOR],
                "registries": list(loaded.registries),
            }
        )
    else:
        print_data(_summary(loaded))


@command.command()
def schema() -> None:
    """Print the JSON schema of inventory.yaml, for editors."""
    from coordinator.config.documents import schema as made

    print_json(made())


def _summary(inventory: Inventory) -> str:
    if not inventory.source:
        return "no inventory file: this machine is used, as the emulator `local`"
    from coordinator.config.locate import label

    boards = sum(host.kind is Kind.BOARD for host in inventory.hosts)
    counts = {
        "board": boards,
        "emulator": len(inventory.hosts) - boards,
        "registry": len(inventory.registries),
    }
    plurals = {"registry": "registries"}
    parts = [
        f"{count} {word if count == 1 else plurals.get(word, f'{word}s')}" for word, count in counts.items() if count
    ]
    return f"{label(Path(inventory.source))}: {', '.join(parts)}"
