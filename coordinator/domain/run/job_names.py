"""The names of a run's jobs on their hosts."""

from __future__ import annotations

from coordinator.domain.image.platforms import Platform


def agent_job(run_id: str, platform: Platform, number: int) -> str:
    """Return the name on its host for the job of attempt `number`."""
    return f"{run_id}-{platform.slug}-{number}"


def run_of(agent_job: str) -> str:
    """Return the id of the run that a job on a host belongs to."""
    return agent_job.partition("-")[0]
