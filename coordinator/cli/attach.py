"""`archloom attach`: show a run as on its driver's terminal, from its beginning until it ends."""

from __future__ import annotations

import sys

import click

from coordinator.cli.environment import read_environment, run_named
from coordinator.cli.output import print_message
from coordinator.errors import Exit
from coordinator.report.follow import Moment, follow
from coordinator.report.record import RecordReader
from coordinator.report.watch import Progress, watching
from coordinator.state.logs import log_folder
from coordinator.state.open_store import open_store
from coordinator.usecases.watch import abandoned, ended_badly, status_of


@click.command(epilog="\b\nExample:\n  archloom attach 7f3a")
@click.argument("run", required=False)
@click.option(
    "--progress", type=click.Choice([progress.value for progress in Progress]), default="auto", help="Progress output."
)
def command(run: str | None, progress: str) -> int:
    """Show RUN, or the newest, from its beginning until it ends.

    Exits with the run's exit code. Ctrl-C stops the display; the run goes on.
    """
    env = read_environment()
    moment = Moment(env.clock)
    with open_store(env) as store:
        name = run_named(run, store).id
        reader = RecordReader(log_folder(env.state, name))
        try:
            with watching(Progress(progress), sys.stderr, moment) as watch:
                ended = follow(reader, watch, moment, lambda: status_of(store.run(name), env.wall_clock))
        except KeyboardInterrupt:
            print_message(
                f"run {name} goes on. Watch it again: archloom attach {name}. Cancel it: archloom cancel {name}"
            )
            return Exit.INTERRUPTED
        stored = store.run(name)
    if not status_of(stored, env.wall_clock).is_over:
        raise abandoned(stored, env.wall_clock)
    problem = ended_badly(stored, ended.message, ended.hint) if ended else ended_badly(stored)
    if problem is not None:
        raise problem
    if ended is None:
        print_message(f"published {', '.join(stored.asked_tags)} {stored.index_digest}")
    return Exit.DONE
