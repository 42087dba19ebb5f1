"""`archloom runs [list]`: what was built and what is being built, newest first."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from operator import attrgetter

import click

from coordinator.cli.around import around, open_store
from coordinator.cli.output import give, give_json, say
from coordinator.domain import references
from coordinator.domain.run import Run
from coordinator.domain.standing import Standing
from coordinator.domain.states import TargetState
from coordinator.errors import Exit
from coordinator.report.tables import moment, table
from coordinator.runner.commands.onlooking import stands

_EVERY = -1  # SQLite's limit that is none
_STATES: dict[str, Callable[[Run, Standing], bool]] = {
    "open": lambda run, _: run.finished_at is None,
    "running": lambda _, stand: stand is Standing.UNDER_WAY,
    "interrupted": lambda _, stand: stand is Standing.INTERRUPTED,
    "published": lambda run, _: run.exit_code == Exit.DONE,
    "failed": lambda run, _: run.exit_code not in (None, Exit.DONE, Exit.INTERRUPTED),
    "cancelled": lambda run, _: run.exit_code == Exit.INTERRUPTED,
}


@click.command(epilog="\b\nExample:\n  archloom runs --state failed --tag nas.lan:5000/app")
@click.option("--state", type=click.Choice(list(_STATES)), help="Only these; open is running or interrupted.")
@click.option("--tag", metavar="REF", help="Only those of this tag, or of all tags of a repository.")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def command(*, state: str | None, tag: str | None, limit: int, as_json: bool) -> None:
    """List the latest runs."""
    here = around()
    wanted = references.parse(tag) if tag else None
    with open_store(here) as store:
        latest = store.runs(limit if state is tag is None else _EVERY)
    found = [(run, stands(run, here.clock)) for run in latest if wanted is None or _has(run, wanted)]
    runs = [(run, stand) for run, stand in found if state is None or _STATES[state](run, stand)][:limit]
    if as_json:
        give_json([_to_json(run, stand) for run, stand in runs])
    elif runs:
        give(table(("run", "begun", "state", "platforms", "tags"), [_row(run, stand) for run, stand in runs]))
    else:
        say("no such runs" if latest else "no runs yet")


def _has(run: Run, wanted: references.Reference) -> bool:
    tags = map(references.parse, run.asked_tags)
    return any(tag.name == wanted.name and wanted.tag in ("", tag.tag) for tag in tags)


def _row(run: Run, stand: Standing) -> tuple[str, ...]:
    jobs = sorted(run.jobs, key=attrgetter("state"))
    states = ", ".join(f"{len(list(group))} {state}" for state, group in groupby(jobs, attrgetter("state")))
    return (run.id, moment(run.created_at), _state(run, stand), states, " ".join(run.asked_tags))


def _state(run: Run, stand: Standing) -> str:
    match stand:
        case Standing.ENDED:
            return run.target_state if run.exit_code == Exit.DONE else f"{run.target_state} (exit {run.exit_code})"
        case Standing.INTERRUPTED:
            return f"interrupted: archloom resume {run.id}"
        case Standing.UNDER_WAY:
            reached = "open" if run.target_state is TargetState.OPEN else f"open ({run.target_state})"
            return f"{reached}, driven by {run.lease.driver.holder}" if run.lease else reached


def _to_json(run: Run, stand: Standing) -> dict[str, object]:
    return {
        "run": run.id,
        "created_at": run.created_at,
        "finished_at": run.finished_at,
        "exit_code": run.exit_code,
        "state": run.target_state,
        "standing": stand,
        "driver": {"holder": run.lease.driver.holder, "beat_at": run.lease.beat_at} if run.lease else None,
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
