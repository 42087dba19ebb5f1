"""`archloom why`: show what a run did for each platform, with durations, and the changes since the previous run."""

from __future__ import annotations

import sys
from shutil import get_terminal_size

import click

from coordinator.cli.environment import read_environment, run_and_platform, run_named
from coordinator.cli.output import print_data, print_json, print_message
from coordinator.domain.dockerfile.bases import BUILD_PLATFORM
from coordinator.domain.image import platforms
from coordinator.domain.run.model import Run
from coordinator.domain.run.status import Status
from coordinator.domain.why.comparison import Sources, compare
from coordinator.environment import Environment
from coordinator.report.record import RecordReader
from coordinator.report.why import comparison_json, comparison_text
from coordinator.run.inputs.snapshot import built_from
from coordinator.state.logs import log_folder
from coordinator.state.open_store import open_store
from coordinator.store.sqlite import Store
from coordinator.usecases.watch import jobs_of, status_of


@click.command(epilog="\b\nExample:\n  archloom why 7f3a linux/arm64")
@click.argument("run", required=False)
@click.argument("platform", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def command(run: str | None, platform: str | None, *, as_json: bool) -> None:
    """Explain what RUN, or the newest, did and why: every decision, wait, step
    and error in order, with seconds, compared with the previous run of the same target."""
    env = read_environment()
    run, platform = run_and_platform(run, platform)
    with open_store(env) as store:
        stored = run_named(run, store)
        jobs = jobs_of(stored, platforms.parse(platform) if platform else None)
        previous = store.previous(stored)
        now = _known(stored, store, env)
        before = _known(previous, store, env) if previous else None
    comparison = compare(now, before, [job.platform for job in jobs], BUILD_PLATFORM)
    if as_json:
        print_json(comparison_json(comparison))
    else:
        print_data(comparison_text(comparison, get_terminal_size().columns if sys.stdout.isatty() else None))
        if comparison.status is Status.INTERRUPTED:
            print_message(f"hint: go on with it: archloom resume {stored.id}")


def _known(run: Run, store: Store, env: Environment) -> Sources:
    return Sources(
        run=run,
        status=status_of(run, env.wall_clock),
        committed=store.events(run.id),
        recorded=tuple(RecordReader(log_folder(env.state, run.id)).new()),
        built_from=built_from(env.state, run),
    )
