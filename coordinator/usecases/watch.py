"""What is told of a run to whoever asks about it and does not drive it."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.domain.durations import ago
from coordinator.domain.image.platforms import Platform
from coordinator.domain.run.model import Job, Run
from coordinator.domain.run.run_error import run_error
from coordinator.domain.run.status import Status, status
from coordinator.errors import ArchloomError, Exit, LostError, of_exit
from coordinator.store.processes import is_alive


def status_of(run: Run, clock: Callable[[], float]) -> Status:
    """What has become of the run by now, as far as this machine can tell."""
    return status(run, clock(), is_alive)


def jobs_of(run: Run, platform: Platform | None) -> tuple[Job, ...]:
    """The jobs of the run, or the one of this platform. Raises UsageError where it has none."""
    return run.jobs if platform is None else (run.job_of(platform),)


def abandoned(run: Run, clock: Callable[[], float]) -> LostError:
    """The error for a run that is not over and that nobody drives."""
    was = f": {run.lease.driver.holder} did, last heard of {ago(clock() - run.lease.beat_at)}" if run.lease else ""
    return LostError(
        f"nobody drives run {run.id} any more{was}", hint=f"go on with it: archloom resume {run.id}", code="abandoned"
    )


def ended_badly(run: Run, message: str = "", hint: str = "") -> ArchloomError | None:
    """The error a run ended with, told again; `None` for one that ended well.

    `message` and `hint` are those of its record, empty where it has none.
    """
    code = Exit.BUG if run.exit_code is None else run.exit_code
    if code == Exit.DONE:
        return None
    if message:
        return of_exit(code, message, hint=hint)
    known = run_error(run, ", ".join(run.asked_tags))
    if known is not None and known.exit_code == code:
        return known
    return of_exit(code, f"run {run.id} ended with exit code {code}", hint=f"what was built: archloom logs {run.id}")
