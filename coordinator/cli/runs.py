"""`archloom runs`: what was built, newest first."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter

import click

from coordinator.cli.around import around, open_store
from coordinator.cli.output import give, give_json, say
from coordinator.domain.run import Run
from coordinator.domain.states import TargetState
from coordinator.errors import Exit
from coordinator.report.tables import table


@click.command(epilog="\b\nExample:\n  archloom runs --json")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def command(*, as_json: bool) -> None:
    """List the latest runs."""
    with open_store(around()) as store:
        runs = store.runs()
    if as_json:
        give_json([_to_json(run) for run in runs])
    elif runs:
        give(table(("run", "begun", "state", "platforms", "tags"), [_row(run) for run in runs]))
    else:
        say("no runs yet")


def _row(run: Run) -> tuple[str, ...]:
    begun = datetime.fromtimestamp(run.created_at, tz=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    jobs = sorted(run.jobs, key=attrgetter("state"))
    states = ", ".join(f"{len(list(group))} {state}" for state, group in groupby(jobs, attrgetter("state")))
    return (run.id, begun, _state(run), states, " ".join(run.asked_tags))


def _state(run: Run) -> str:
    if run.exit_code is None:
        return "open" if run.target_state is TargetState.OPEN else f"open ({run.target_state})"
    if run.exit_code == Exit.DONE:
        return run.target_state
    return f"{run.target_state} (exit {run.exit_code})"


def _to_json(run: Run) -> dict[str, object]:
    return {
        "run": run.id,
        "created_at": run.created_at,
        "finished_at": run.finished_at,
        "exit_code": run.exit_code,
        "state": run.target_state,
        "digest": run.index_digest,
        "tags": list(run.asked_tags),
        "platforms": {
            str(job.platform): {
                "state": job.state,
                "build_id": job.build_id,
                "reused": job.reused,
                "attempts": [
                    {"host": one.host, "mode": one.mode, "state": one.state, "code": one.code, "message": one.message}
                    for one in job.attempts
                ],
            }
            for job in run.jobs
        },
    }
