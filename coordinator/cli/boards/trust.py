"""`archloom boards trust`: store the new host key of a reinstalled host."""

from __future__ import annotations

import click

from coordinator.cli.environment import read_environment
from coordinator.cli.output import print_message
from coordinator.cli.terminal import Terminal


@click.command(
    epilog="\b\nExample:\n  archloom boards trust pi5 --host-key SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"
)
@click.argument("name")
@click.option(
    "--host-key", metavar="SHA256:…", default="", help="The expected host key; you are then not asked about it."
)
@click.option("-i", "--inventory", metavar="FILE", help="Inventory that lists it. (env: ARCHLOOM_INVENTORY)")
def command(name: str, host_key: str, inventory: str | None) -> None:
    """Trust the key that a host shows now.

    Shows the key on record and the new one, asks once, and writes host_key: into the host's entry of the inventory,
    which takes precedence over ~/.ssh/known_hosts; that file is not changed.
    """
    from coordinator.usecases.boards.trust import trust

    trusted = trust(name, host_key, inventory, read_environment(), Terminal())
    if not trusted.is_new:
        print_message(f"{name}: nothing to do, its host key is the one on record: {trusted.key}")
        return
    print_message(f"{name}: host_key is {trusted.key} now")
    print_message(f"next: archloom boards {name}; if the host was reinstalled, install your key again with ssh-copy-id")
