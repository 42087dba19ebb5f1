"""Questions about a run from a process that does not drive it."""

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
    """Return the status of the run; whether its driver is alive is known only for processes of this coordinator."""
    return status(run, clock(), is_alive)


def jobs_of(run: Run, platform: Platform | None) -> tuple[Job, ...]:
    """Return the jobs of the run, or only the job of this platform. Raises UsageError where the run has none for it."""
    return run.jobs if platform is None else (run.job_of(platform),)


def abandoned(run: Run, clock: Callable[[], float]) -> LostError:
    """Return the error for an unfinished run without a driver."""
    last_driver = (
        f": {run.lease.driver.holder} did, last heard of {ago(clock() - run.lease.beat_at)}" if run.lease else ""
    )
    return LostError(
        f"nobody drives run {run.id} any more{last_driver}",
        hint=f"go on with it: archloom resume {run.id}",
        code="abandoned",
    )


def ended_badly(run: Run, message: str = "", hint: str = "") -> ArchloomError | None:
    """Return the error that the run ended with; None where it ended with exit code 0.

    `message` and `hint` are those of the run's record, empty where it has none.
    """
    code = Exit.BUG if run.exit_code is None else run.exit_code
    if code == Exit.DONE:
        return None
    if message:
        return of_exit(code, message, hint=hint)
    job_error = run_error(run, ", ".join(run.asked_tags))
    if job_error is not None and job_error.exit_code == code:
        return job_error
    return of_exit(code, f"run {run.id} ended with exit code {code}", hint=f"what was built: archloom logs {run.id}")
