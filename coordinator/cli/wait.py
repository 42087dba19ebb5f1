"""`archloom wait`: wait silently until runs have ended."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from coordinator.cli.environment import read_environment, run_named
from coordinator.cli.output import print_error
from coordinator.domain.run.model import Run
from coordinator.domain.run.status import Status
from coordinator.errors import Exit, TimedOutError, worst
from coordinator.report.follow import POLL_S
from coordinator.state.open_store import open_store
from coordinator.usecases.watch import abandoned, status_of


@click.command(epilog="\b\nExample:\n  archloom wait 7f3a 81c0 && ssh web1 docker compose pull")
@click.argument("run", nargs=-1)
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Give up after this long (exit 124).")
def command(run: tuple[str, ...], timeout: float | None) -> int:
    """Wait silently until each RUN, or the newest, has ended.

    Exits with the run's exit code; of several runs, with the worst.
    """
    env = read_environment()
    began = time.monotonic()
    with open_store(env) as store:
        names = list(dict.fromkeys(run_named(prefix, store).id for prefix in run or (None,)))
        while True:
            statuses = [(run, status_of(run, env.wall_clock)) for run in map(store.run, names)]
            running = [run.id for run, status in statuses if status is Status.RUNNING]
            if not running:
                break
            if timeout is not None and time.monotonic() - began >= timeout:
                raise _late(running, timeout)
            time.sleep(POLL_S)
    errors = [abandoned(run, env.wall_clock) for run, status in statuses if status is Status.INTERRUPTED]
    for error in errors:
        print_error(error)
    return worst([*(error.exit_code for error in errors), *(_exit(run) for run, _ in statuses if run.finished_at)])


def _exit(run: Run) -> Exit:
    """Return the exit code of a run that has ended; BUG for a code that this version does not know."""
    return Exit(run.exit_code) if run.exit_code in set(Exit) else Exit.BUG


def _late(left: Sequence[str], timeout: float) -> TimedOutError:
    verb = "has" if len(left) == 1 else "have"
    return TimedOutError(
        f"{', '.join(left)} {verb} not ended in {timeout:g} s", hint=f"watch it: archloom attach {left[0]}"
    )
