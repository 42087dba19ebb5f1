"""`archloom logs`: what the builds of a run printed, as it is kept on this machine."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from coordinator.cli.around import around, open_store
from coordinator.cli.output import give
from coordinator.domain import platforms
from coordinator.domain.run import Job, Run
from coordinator.errors import UsageError
from coordinator.runner.logs import log_path


@click.command(epilog="\b\nExample:\n  archloom logs 7f3a linux/arm64")
@click.argument("run")
@click.argument("platform", required=False)
def command(run: str, platform: str | None) -> None:
    """Show the log of a run, of one PLATFORM or of all."""
    here = around()
    with open_store(here) as store:
        found = store.find_run(run)
    jobs = [_job(found, platform)] if platform else list(found.jobs)
    for job in jobs:
        for attempt in job.attempts:
            give(f"==> {job.platform} on {attempt.host} ({attempt.mode}), attempt {attempt.number}: {attempt.state}")
            _print(log_path(here.state, found.id, job.platform, attempt.number))
        if job.reused:
            give(f"==> {job.platform}: reused, nothing was built")


def _job(run: Run, text: str) -> Job:
    wanted = platforms.parse(text)
    for job in run.jobs:
        if job.platform == wanted:
            return job
    has = ", ".join(str(job.platform) for job in run.jobs)
    raise UsageError(f"run {run.id} has no {wanted}", hint=f"it has {has}")


def _print(path: Path) -> None:
    if path.is_file():
        sys.stdout.flush()
        with path.open("rb") as log:
            shutil.copyfileobj(log, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    else:
        give("no log: it ended before the build began")
