"""`archloom resume`: continue a run whose coordinator is gone."""

from __future__ import annotations

from typing import Any

import click

from coordinator.cli.run_command import OutputOptions, result_flags, run_and_report
from coordinator.domain.run.model import Run
from coordinator.domain.run.states import TargetState
from coordinator.errors import UsageError


@click.command(epilog="\b\nExample:\n  archloom resume")
@click.argument("run", required=False)
@click.option("-i", "--inventory", metavar="FILE", help="Inventory with the hosts. Default: that of RUN.")
@result_flags
def command(run: str | None, *, inventory: str | None, **words: Any) -> int:  # noqa: ANN401 - the result flags
    """Resume RUN, or the newest run that has not ended."""
    from coordinator.cli.environment import inventory_of, read_environment
    from coordinator.state.open_store import open_store
    from coordinator.usecases.resume import resume

    options = OutputOptions(**words)
    env = read_environment()
    with open_store(env) as store:
        stored = store.find_run(run) if run is not None else store.newest_unfinished()
    if stored is None:
        raise UsageError(
            "no run is unfinished", hint="archloom runs lists all runs; archloom retry tries a failed one again"
        )
    _check_unfinished(stored)
    hosts = inventory_of(stored, inventory, env)
    return run_and_report(options, env, lambda watch: resume(stored, hosts, env, watch))


def _check_unfinished(run: Run) -> None:
    if run.finished_at is None:
        return
    if run.target_state is TargetState.PUBLISHED:
        raise UsageError(f"run {run.id} has ended: it is published", hint="archloom build builds it again")
    ended = "was cancelled" if run.cancel_asked else f"has ended (exit {run.exit_code})"
    raise UsageError(f"run {run.id} {ended}", hint=f"build what is missing: archloom retry {run.id}")
