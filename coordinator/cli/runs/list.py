"""`archloom runs [list]`: list the runs, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import click

from coordinator.cli.environment import read_environment
from coordinator.cli.output import print_data, print_json, print_message
from coordinator.domain.image import references
from coordinator.domain.run.model import Run
from coordinator.domain.run.status import Status
from coordinator.report.tables import moment, table
from coordinator.state.open_store import open_store
from coordinator.usecases.watch import status_of


@click.command(epilog="\b\nExample:\n  archloom runs --state failed --state lost --tag nas.lan:5000/app")
@click.option(
    "--state",
    multiple=True,
    type=click.Choice([status.value for status in Status]),
    help="Only runs in this state; may be repeated.",
)
@click.option("--tag", metavar="REF", help="Only runs of this tag, or of all tags of a repository.")
@click.option(
    "-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most this many runs."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def command(*, state: tuple[str, ...], tag: str | None, limit: int, as_json: bool) -> None:
    """List the latest runs."""
    env = read_environment()
    reference = None if tag is None else references.parse(tag)

    def is_wanted(run: Run) -> bool:
        return (reference is None or _has(run, reference)) and (not state or status_of(run, env.wall_clock) in state)

    with open_store(env) as store:
        runs = [(run, status_of(run, env.wall_clock)) for run in store.find_runs(is_wanted, limit)]
    if as_json:
        print_json([_to_json(run, status) for run, status in runs])
    elif runs:
        print_data(table(("run", "started", "state", "platforms", "tags"), [_row(run, status) for run, status in runs]))
        _hint([run.id for run, status in runs if status is Status.INTERRUPTED])
    else:
        print_message("no matching runs" if state or tag else "no runs yet")


def _hint(interrupted: Sequence[str]) -> None:
    if interrupted:
        which = "it" if len(interrupted) == 1 else "the latest interrupted run"
        print_message(f"hint: go on with {which}: archloom resume {interrupted[0]}")


def _has(run: Run, wanted: references.Reference) -> bool:
    tags = map(references.parse, run.asked_tags)
    return any(tag.name == wanted.name and wanted.tag in ("", tag.tag) for tag in tags)


def _row(run: Run, status: Status) -> tuple[str, ...]:
    words = sorted(job.state_in_words for job in run.jobs)
    platforms = ", ".join(f"{len(list(group))} {word}" for word, group in groupby(words))
    by = f" ({run.lease.driver.holder})" if run.lease and status is Status.RUNNING else ""
    return (run.id, moment(run.created_at), f"{status}{by}", platforms, " ".join(run.asked_tags))


def _to_json(run: Run, status: Status) -> dict[str, object]:
    return {
        "run": run.id,
        "created_at": run.created_at,
        "finished_at": run.finished_at,
        "exit_code": run.exit_code,
        "state": status,
        "driver": {"holder": run.lease.driver.holder, "beat_at": run.lease.beat_at} if run.lease else None,
        "digest": run.index_digest,
        "tags": list(run.asked_tags),
        "platforms": {
            str(job.platform): {
                "state": job.state,
                "build_id": job.build_id,
                "reused": job.reused,
                "attempts": [
                    {
                        "host": attempt.host,
                        "mode": attempt.mode,
                        "state": attempt.state,
                        "code": attempt.code,
                        "message": attempt.message,
                    }
                    for attempt in job.attempts
                ],
            }
            for job in run.jobs
        },
    }
