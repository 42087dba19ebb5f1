"""Which waiting jobs get a host now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from coordinator.domain.image.platforms import Mode, Platform
from coordinator.domain.run.model import Job, Run
from coordinator.domain.run.retry import Verdict, verdict
from coordinator.domain.run.states import AttemptState, JobState

_RANK = {mode: rank for rank, mode in enumerate(Mode)}
_HOLDS_A_SLOT = (AttemptState.ASSIGNED, AttemptState.SENDING, AttemptState.BUILDING)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A host that can build the platform, and how."""

    host: str
    mode: Mode


@dataclass(frozen=True, slots=True)
class Assignment:
    job_id: int
    candidate: Candidate


def assign(
    run: Run, candidates: Mapping[Platform, Sequence[Candidate]], slots: Mapping[str, int]
) -> tuple[Assignment, ...]:
    """Hosts for the run's pending jobs, as far as slots are free.

    `candidates` are in order of preference; `slots` says how many jobs of ours a host takes at once. A job waits for
    the best mode it can have rather than take a worse one that happens to be free. It goes to a host it was lost on
    only when there is no other, and not at all when that host would lose it again. Jobs with the
    fewest hosts of that mode choose first; among equals the least busy host wins, then the one that fewest jobs want.
    """
    busy = Counter(attempt.host for job in run.jobs for attempt in job.attempts if attempt.state in _HOLDS_A_SLOT)
    pending = [job for job in run.jobs if job.state is JobState.PENDING]
    found: list[Assignment] = []
    able = {job.id: _preferred(job, candidates) for job in pending}
    wanted = demand(able.values())
    for job in sorted(pending, key=lambda job: (len(able[job.id]), job.id)):
        free = [candidate for candidate in able[job.id] if busy[candidate.host] < slots.get(candidate.host, 0)]
        if free:
            chosen = min(
                free, key=lambda candidate: (busy[candidate.host] / slots[candidate.host], wanted[candidate.host])
            )
            busy[chosen.host] += 1
            found.append(Assignment(job.id, chosen))
    return tuple(found)


def demand(able: Iterable[Sequence[Candidate]]) -> Counter[str]:
    """How many jobs would go to each host, were it for the best mode alone; `able` are each job's hosts."""
    return Counter(host for hosts in able for host in best_hosts(hosts))


def best_hosts(able: Sequence[Candidate]) -> list[str]:
    """The hosts of the best mode."""
    best = min((_RANK[candidate.mode] for candidate in able), default=0)
    return [candidate.host for candidate in able if _RANK[candidate.mode] == best]


def hopeless(run: Run, candidates: Mapping[Platform, Sequence[Candidate]]) -> tuple[Job, ...]:
    """Pending jobs that no host can take, now or later."""
    return tuple(job for job in run.jobs if job.state is JobState.PENDING and not _preferred(job, candidates))


def _preferred(job: Job, candidates: Mapping[Platform, Sequence[Candidate]]) -> list[Candidate]:
    able = list(candidates.get(job.platform, ()))
    tried = {attempt.host for attempt in job.attempts}
    untried = [candidate for candidate in able if candidate.host not in tried]
    if tried and verdict(job.codes) is Verdict.ELSEWHERE:
        able = untried
    able = untried or able
    return [candidate for candidate in able if candidate.mode is able[0].mode]
