"""`archloom cancel`: end a run, whether a coordinator drives it or not."""

from __future__ import annotations

import asyncio
import sys

import click

from coordinator.domain.run.model import Run
from coordinator.errors import Exit, UsageError


@click.command(epilog="\b\nExample:\n  archloom cancel 7f3a")
@click.argument("run")
@click.option(
    "-i", "--inventory", metavar="FILE", help="Inventory, if no coordinator drives RUN. Default: that of RUN."
)
def command(run: str, *, inventory: str | None) -> None:
    """Cancel RUN: its builds are cancelled on their hosts, and no further tag is moved."""
    from coordinator.cli.environment import inventory_of, read_environment
    from coordinator.cli.output import print_message
    from coordinator.report.record import recorded
    from coordinator.report.watch import Progress, watching
    from coordinator.state.open_store import open_store
    from coordinator.usecases.cancel import cancel

    env = read_environment()
    with open_store(env) as store:
        stored = store.find_run(run)
    if stored.finished_at is not None:
        raise _over(stored, "already")
    with watching(Progress.QUIET, sys.stderr) as shown, recorded(shown, env.clock) as watch:
        ended = asyncio.run(cancel(stored.id, lambda: inventory_of(stored, inventory, env), env, watch))
    if ended.exit_code != Exit.INTERRUPTED:
        raise _over(ended, "before it could be cancelled")
    moved = ", ".join(tag.reference for tag in ended.tags if tag.moved)
    print_message(f"run {ended.id} is cancelled{f'; {moved} moved already' if moved else ''}")
    aim = "publish what is built" if any(job.kept for job in ended.jobs) else "build it after all"
    print_message(f"hint: to {aim}: archloom retry {ended.id}")


def _over(run: Run, when: str) -> UsageError:
    outcome = run.target_state if run.exit_code == Exit.DONE else f"exit {run.exit_code}"
    return UsageError(f"run {run.id} has ended {when}: {outcome}", hint=f"what it did: archloom why {run.id}")
