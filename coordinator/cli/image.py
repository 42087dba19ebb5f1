"""`archloom image`: show the index and the platforms of a tag, as the registry has them."""

from __future__ import annotations

import asyncio

import click

from coordinator.cli.environment import open_inventory, read_environment
from coordinator.cli.output import print_data, print_json
from coordinator.domain.image import references
from coordinator.report.tables import size, table
from coordinator.usecases.image.inspect import Entry, Inspected, inspect


@click.group()
def command() -> None:
    """Inspect an image in a registry."""


@command.command("inspect", epilog="\b\nExample:\n  archloom image inspect nas.lan:5000/app:1.0")
@click.argument("ref")
@click.option("-i", "--inventory", metavar="FILE", help="Inventory with registry settings. (env: ARCHLOOM_INVENTORY)")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def inspect_command(ref: str, inventory: str | None, *, as_json: bool) -> None:
    """Show the index of REF, and which entry each platform gets."""
    env = read_environment()
    inspected = asyncio.run(inspect(references.parse(ref), open_inventory(inventory, env), env))
    if as_json:
        print_json(inspected.to_json())
        return
    print_data(f"{inspected.reference}\n{inspected.media_type} {inspected.digest}")
    print_data(table(("platform", "digest", "size", "media type"), [_row(entry) for entry in inspected.entries]))
    print_data("\n" + table(("a client on", "gets"), _resolved(inspected)))


def _row(entry: Entry) -> tuple[str, ...]:
    return (entry.platform or f"(attests {entry.subject[:19]})", entry.digest, size(entry.size), entry.media_type)


def _resolved(found: Inspected) -> list[tuple[str, str]]:
    return [(str(platform), digest or "nothing: no entry matches") for platform, digest in found.resolved]
