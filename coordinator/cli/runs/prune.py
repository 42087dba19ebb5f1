"""`archloom runs prune`: delete old runs, with their logs and records. Images and tags stay."""

from __future__ import annotations

import sys

import click

from coordinator.cli.environment import read_environment
from coordinator.cli.output import print_data, print_json, print_message
from coordinator.config import parsers
from coordinator.domain.run.log_budget import too_many, too_old
from coordinator.domain.run.model import Run
from coordinator.errors import UsageError
from coordinator.report.tables import moment, size, table
from coordinator.report.watch import Progress, watching
from coordinator.state.open_store import open_store
from coordinator.state.retention import drop_folders, measure_folders, stray_folders

_DEFAULT_AGE = "30d"
_MAX_AGE_S = 100 * 366 * 86400.0


def _seconds(context: click.Context, option: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        return parsers.duration(value, shortest=0, longest=_MAX_AGE_S)
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from error


@click.command(epilog="\b\nExample:\n  archloom runs prune --older-than 90d")
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Delete all ended runs except the latest N.")
@click.option(
    "--older-than",
    callback=_seconds,
    metavar="AGE",
    help=f"Delete runs that ended more than AGE ago. Default: {_DEFAULT_AGE}.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be deleted, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def command(*, keep: int | None, older_than: float | None, dry_run: bool, as_json: bool) -> None:
    """Delete old runs, with their logs. Runs that have not ended are kept; so are images and tags."""
    if keep is not None and older_than is not None:
        raise UsageError("--keep and --older-than cannot be combined", hint="give one of them")
    env = read_environment()
    now = env.clock()
    age = parsers.duration(_DEFAULT_AGE, 0, _MAX_AGE_S) if older_than is None else older_than
    with open_store(env) as store, watching(Progress.PLAIN, sys.stderr) as watch:
        runs = store.runs(limit=None)
        old = too_old(runs, now - age) if keep is None else too_many(runs, keep)
        stray = stray_folders(env.state, store, now if keep is not None else now - age)
        names = [run.id for run in old]
        if dry_run:
            freed = measure_folders(env.state, [*names, *stray])
        else:
            # The store first: a folder that cannot be deleted then belongs to no run, and the next prune deletes it.
            names = list(store.prune(names))
            freed = drop_folders(env.state, [*names, *stray], watch)
    if as_json:
        print_json({"runs": names, "bytes": freed, "dry_run": dry_run})
        return
    if dry_run and old:
        print_data(table(("run", "started", "tags"), [_row(run) for run in old]))
    many = "run" if len(names) == 1 else "runs"
    print_message(f"{len(names)} {many}, {size(freed)} {'would be ' if dry_run else ''}deleted")


def _row(run: Run) -> tuple[str, ...]:
    return (run.id, moment(run.created_at), " ".join(run.asked_tags))
