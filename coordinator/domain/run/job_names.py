"""The names of a run's jobs on their hosts."""

from __future__ import annotations

from coordinator.domain.image.platforms import Platform


def agent_job(run_id: str, platform: Platform, number: int) -> str:
    """Return the name on its host for the job of attempt `number`."""
    return f"{run_id}-{platform.slug}-{number}"


def run_of(agent_job: str) -> str:
    """Return the id of the run that a job on a host belongs to."""
    return agent_job.partition("-")[0]


def adopted_from(run_id: str, agent_job: str) -> str:
    """Return the id of the run that began the job on the host, where that is another run; else an empty text."""
    began = run_of(agent_job)
    return "" if began == run_id else began
