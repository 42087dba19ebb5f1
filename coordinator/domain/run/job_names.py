"""The names of a run's jobs on their hosts."""

from __future__ import annotations

from coordinator.domain.run.model import Attempt, Job


def agent_job(run_id: str, job: Job, attempt: Attempt) -> str:
    """Return the name of the attempt's job on its host."""
    return f"{run_id}-{job.platform.slug}-{attempt.number}"


def run_of(agent_job: str) -> str:
    """Return the id of the run that a job on a host belongs to."""
    return agent_job.partition("-")[0]
