"""How the jobs of a run are called on their hosts."""

from __future__ import annotations

from coordinator.domain.run.model import Attempt, Job


def agent_job(run_id: str, job: Job, attempt: Attempt) -> str:
    """The attempt's name on its host."""
    return f"{run_id}-{job.platform.slug}-{attempt.number}"


def run_of(agent_job: str) -> str:
    """The run that a job on a host belongs to."""
    return agent_job.partition("-")[0]
