"""`archloom boards remove`: remove a host from the inventory, and with --purge archloom from the host."""

from __future__ import annotations

import click

from coordinator.cli.environment import read_environment
from coordinator.cli.output import print_message
from coordinator.cli.terminal import Terminal


@click.command(epilog="\b\nExample:\n  archloom boards remove pi5 --purge")
@click.argument("name")
@click.option("--purge", is_flag=True, help="First delete everything archloom put on the host.")
@click.option("--yes", is_flag=True, help="Also end the builds that are running there.")
@click.option("-i", "--inventory", metavar="FILE", help="Inventory that lists it. (env: ARCHLOOM_INVENTORY)")
def command(name: str, inventory: str | None, *, purge: bool, yes: bool) -> None:
    """Remove a host from the inventory.

    With --purge its jobs, the images and bases held in its engine, the agent with all its folders and the key that
    `boards add` installed are deleted first; a host that cannot be reached then stays in the inventory.
    """
    from coordinator.config.locate import label
    from coordinator.usecases.boards.remove import Removal, remove

    removed = remove(Removal(name=name, purge=purge, yes=yes, inventory=inventory), read_environment(), Terminal())
    for line in removed.lines:
        print_message(f"{name}: {line}")
    print_message(f"{label(removed.file)}: removed {name}")
    if removed.is_last:
        print_message("next: no host is left in it; archloom boards add USER@HOST adds one")
