"""`archloom logs`: what the builds of a run printed, as it is kept on this machine."""

from __future__ import annotations

import time
from pathlib import Path

import click

from coordinator.cli.around import around, open_store
from coordinator.cli.output import give, give_bytes
from coordinator.domain import platforms, states
from coordinator.domain.run import Attempt, Job, Run
from coordinator.domain.standing import Standing
from coordinator.domain.states import AttemptState
from coordinator.errors import Exit
from coordinator.report.follow import POLL_S
from coordinator.report.tail import Tail
from coordinator.runner.around import Around
from coordinator.runner.logs import log_folder, log_path
from coordinator.runner.onlooking import abandoned, jobs_of, stands
from coordinator.store.sqlite import Store

_BEFORE_THE_END = frozenset({AttemptState.ASSIGNED, AttemptState.SENDING, AttemptState.BUILDING})


@click.command(epilog="\b\nExample:\n  archloom logs 7f3a linux/arm64 -f")
@click.argument("run")
@click.argument("platform", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the builds have ended.")
def command(run: str, platform: str | None, *, follow: bool) -> int:
    """Show the log of a run, of one PLATFORM or of all."""
    here = around()
    with open_store(here) as store:
        found = store.find_run(run)
        shown = _Shown(here.state, found.id, platforms.parse(platform) if platform else None)
        try:
            found = _show(shown, found, here, store, follow=follow)
        except KeyboardInterrupt:
            if not follow:
                raise
            return Exit.INTERRUPTED
    if follow and shown.is_under_way(found):
        raise abandoned(found, here.clock)
    return Exit.DONE


def _show(shown: _Shown, found: Run, here: Around, store: Store, *, follow: bool) -> Run:
    """Returns the run as it was when nothing more was to be shown."""
    while True:
        # Asked before the logs are read: what was written before the end is shown in any case.
        goes_on = follow and shown.is_under_way(found) and stands(found, here.clock) is Standing.UNDER_WAY
        shown.show(found, to_the_end=not goes_on)
        if not goes_on:
            return found
        time.sleep(POLL_S)
        found = store.run(found.id)


class _Shown:
    """What is on stdout already, by attempt."""

    def __init__(self, state: Path, run_id: str, platform: platforms.Platform | None) -> None:
        self._state = state
        self._run_id = run_id
        self._platform = platform
        self._tails: dict[int, Tail] = {}
        self._reused: set[int] = set()
        self._latest = 0

    def is_under_way(self, run: Run) -> bool:
        return any(not states.ended(job.state) for job in jobs_of(run, self._platform))

    def show(self, run: Run, *, to_the_end: bool) -> None:
        """Whatever is new; of logs that are not shown any further also a last line that does not end."""
        for job in jobs_of(run, self._platform):
            for attempt in job.attempts:
                self._attempt(job, attempt, to_the_end=to_the_end)
            if job.reused and job.id not in self._reused:
                self._reused.add(job.id)
                give(f"==> {job.platform}: reused, nothing was built")

    def _attempt(self, job: Job, attempt: Attempt, *, to_the_end: bool) -> None:
        head = f"==> {job.platform} on {attempt.host} ({attempt.mode}), attempt {attempt.number}"
        tail = self._tails.get(attempt.id)
        if tail is None:
            tail = Tail(log_path(self._state, self._run_id, job.platform, attempt.number))
            if not (to_the_end or tail.path.is_file()):
                return
            self._tails[attempt.id] = tail
            self._latest = attempt.id
            give(f"{head}: {attempt.state}")
        for lines in tail.new():
            self._give(attempt, head, lines)
        if to_the_end and tail.rest:
            self._give(attempt, head, tail.rest + b"\n")
        if to_the_end and not tail.path.is_file():
            give(self._why_none(attempt))

    def _give(self, attempt: Attempt, head: str, lines: bytes) -> None:
        if self._latest != attempt.id:
            self._latest = attempt.id
            give(head)
        give_bytes(lines)

    def _why_none(self, attempt: Attempt) -> str:
        if not log_folder(self._state, self._run_id).is_dir():
            return "no log: it is not kept any more"
        if attempt.state in _BEFORE_THE_END:
            return "no log yet"
        return "no log: it ended before the build began" if states.ended(attempt.state) else "no log: it was not kept"
