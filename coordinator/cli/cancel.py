"""`archloom cancel`: ends a run, whoever drives it."""

from __future__ import annotations

import asyncio
import sys

import click


@click.command(epilog="\b\nExample:\n  archloom cancel 7f3a")
@click.argument("run")
def command(run: str) -> None:
    """End RUN: its builds are cancelled on their hosts, and no tag is moved any more."""
    from coordinator.cli.around import around, inventory_of, open_store
    from coordinator.cli.output import say
    from coordinator.report.record import recorded
    from coordinator.report.watch import Progress, watching
    from coordinator.runner.cancel import cancel

    here = around()
    with open_store(here) as store:
        found = store.find_run(run)
    hosts = inventory_of(found, None, here)
    with watching(Progress.QUIET, sys.stderr) as shown, recorded(shown, here.clock) as watch:
        asyncio.run(cancel(found, hosts, here, watch))
    say(f"run {found.id} is cancelled")
