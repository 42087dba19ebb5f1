"""`archloom logs`: show the build logs of a run, which are stored on the coordinator."""

from __future__ import annotations

import time
from pathlib import Path

import click

from coordinator.cli.environment import read_environment, run_and_platform, run_named
from coordinator.cli.output import print_bytes, print_data, print_message
from coordinator.domain.image import platforms
from coordinator.domain.run import states
from coordinator.domain.run.job_names import adopted_from
from coordinator.domain.run.model import Attempt, Job, Run
from coordinator.domain.run.states import AttemptState
from coordinator.domain.run.status import Status
from coordinator.environment import Environment
from coordinator.errors import Exit
from coordinator.report.follow import POLL_S
from coordinator.report.tail import Tail
from coordinator.state.logs import log_folder, log_path
from coordinator.state.open_store import open_store
from coordinator.store.sqlite import Store
from coordinator.usecases.watch import abandoned, jobs_of, status_of

_NOT_YET_BUILT = frozenset({AttemptState.ASSIGNED, AttemptState.SENDING, AttemptState.BUILDING})


@click.command(epilog="\b\nExample:\n  archloom logs 7f3a linux/arm64 -f")
@click.argument("run", required=False)
@click.argument("platform", required=False)
@click.option("-f", "--follow", is_flag=True, help="Follow the log until the builds have ended.")
def command(run: str | None, platform: str | None, *, follow: bool) -> int:
    """Show the log of RUN (default: the newest), of one PLATFORM or of all."""
    env = read_environment()
    run, platform = run_and_platform(run, platform)
    with open_store(env) as store:
        stored = run_named(run, store)
        shown = _Shown(env.state, stored.id, platforms.parse(platform) if platform else None)
        try:
            stored = _show(shown, stored, env, store, follow=follow)
        except KeyboardInterrupt:
            if not follow:
                raise
            return Exit.INTERRUPTED
    if follow and shown.is_under_way(stored):
        raise abandoned(stored, env.wall_clock)
    return Exit.DONE


def _show(shown: _Shown, found: Run, env: Environment, store: Store, *, follow: bool) -> Run:
    """Show the logs, following them with `follow`, and return the run as it was at the end."""
    while True:
        # Read the status before the logs: all lines written before the end are then shown.
        goes_on = follow and shown.is_under_way(found) and status_of(found, env.wall_clock) is Status.RUNNING
        shown.show(found, to_the_end=not goes_on)
        if not goes_on:
            return found
        time.sleep(POLL_S)
        found = store.run(found.id)


class _Shown:
    """Prints logs to stdout, and remembers what is printed of each attempt."""

    def __init__(self, state: Path, run_id: str, platform: platforms.Platform | None) -> None:
        self._state = state
        self._run_id = run_id
        self._platform = platform
        self._tails: dict[int, Tail] = {}
        self._reused: set[int] = set()
        self._several = False
        self._latest = 0

    def is_under_way(self, run: Run) -> bool:
        return any(not states.ended(job.state) for job in jobs_of(run, self._platform))

    def show(self, run: Run, *, to_the_end: bool) -> None:
        """Print new lines. `to_the_end`: nothing follows, so also print an unfinished last line."""
        jobs = jobs_of(run, self._platform)
        self._several = len(jobs) > 1 or any(len(job.attempts) > 1 for job in jobs)
        for job in jobs:
            for attempt in job.attempts:
                self._attempt(job, attempt, to_the_end=to_the_end)
            if job.reused and job.id not in self._reused:
                self._reused.add(job.id)
                print_message(f"{job.platform}: reused, nothing was built")

    def _attempt(self, job: Job, attempt: Attempt, *, to_the_end: bool) -> None:
        title = f"{job.platform} on {attempt.host} ({attempt.mode}), attempt {attempt.number}"
        tail = self._tails.get(attempt.id)
        if tail is None:
            tail = Tail(log_path(self._state, self._run_id, job.platform, attempt.number))
            if not (to_the_end or tail.path.is_file()):
                return
            self._tails[attempt.id] = tail
        for lines in tail.new():
            self._give(attempt, title, lines)
        if to_the_end and tail.rest:
            self._give(attempt, title, tail.rest + b"\n")
        if to_the_end:
            no_log = "" if tail.path.is_file() else self._why_none(attempt)
            # An error before or after the build is not in its log.
            message = "; ".join(filter(None, (no_log, attempt.failure_text)))
            if message:
                print_message(f"{title}: {message}")

    def _give(self, attempt: Attempt, whose: str, lines: bytes) -> None:
        """Print lines. With several logs, print a header whenever the log changes, as tail(1) does."""
        if self._several and self._latest != attempt.id:
            print_data(f"==> {whose} <==")
        self._latest = attempt.id
        print_bytes(lines)

    def _why_none(self, attempt: Attempt) -> str:
        builder = adopted_from(self._run_id, attempt.agent_job)
        if builder:
            return f"no log: run {builder} built it; see archloom logs {builder}"
        if not log_folder(self._state, self._run_id).is_dir():
            return "no log: it was deleted"
        if attempt.state in _NOT_YET_BUILT:
            return "no log yet"
        return "no log: it ended before the build began" if states.ended(attempt.state) else "no log: it was not kept"
