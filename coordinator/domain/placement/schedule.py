"""Which pending jobs get a host now, and which of the jobs on a host may build."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from coordinator.domain.causes import Retry, rule
from coordinator.domain.image.platforms import Mode, Platform
from coordinator.domain.run.model import Attempt, Job, Run
from coordinator.domain.run.next_actions import SettleJob, next_actions
from coordinator.domain.run.retry import Verdict, verdict
from coordinator.domain.run.states import AttemptState, JobEvent, JobState


@dataclass(frozen=True, slots=True)
class Candidate:
    """A host that can build the platform, and in which mode."""

    host: str
    mode: Mode


@dataclass(frozen=True, slots=True)
class Assignment:
    job_id: int
    candidate: Candidate


def assign(
    run: Run,
    candidates: Mapping[Platform, Sequence[Candidate]],
    slots: Mapping[str, int],
    away: Collection[str] = (),
    spare: Collection[int] = (),
) -> tuple[Assignment, ...]:
    """Return hosts for the run's pending jobs, as far as slots are free. `spare` attempts take none.

    `candidates` are in order of preference; `slots` is how many jobs of this coordinator a host takes at once; `away`
    are the hosts that do not answer now, and get no job. A job waits for its best mode rather than take a free host of
    a worse mode. It returns to a host that lost it only when there is no other host, and not at all when that host
    would lose it again. Jobs with the fewest hosts of their best mode choose first; among equal hosts the least busy
    host wins, then the host that the fewest jobs could take.

    A job that one host alone can take gets it while the jobs there build: its context is sent, and it waits for a slot.
    One job of a host is so far ahead.
    """
    on_hosts = [attempt for attempt in _unbuilt(run) if attempt.id not in spare]
    busy = Counter(attempt.host for attempt in on_hosts)
    # What is sent ahead must not slow down what is sent to build at once.
    sending = {attempt.host for attempt in on_hosts if attempt.state is not AttemptState.BUILDING}
    pending = [job for job in run.jobs if job.state is JobState.PENDING]
    assignments: list[Assignment] = []
    able = {job.id: _preferred(job, candidates) for job in pending}
    demanded = demand(able.values())
    for job in sorted(pending, key=lambda job: (len(able[job.id]), job.id)):
        present = [candidate for candidate in able[job.id] if candidate.host not in away]
        free = [candidate for candidate in present if busy[candidate.host] < slots.get(candidate.host, 0)]
        if not free and len(able[job.id]) == len(present) == 1:
            only = present[0].host
            free = present if only not in sending and 0 < busy[only] == slots.get(only) else []
        if free:
            chosen = min(
                free, key=lambda candidate: (busy[candidate.host] / slots[candidate.host], demanded[candidate.host])
            )
            busy[chosen.host] += 1
            sending.add(chosen.host)
            assignments.append(Assignment(job.id, chosen))
    return tuple(assignments)


def hedges(
    run: Run,
    candidates: Mapping[Platform, Sequence[Candidate]],
    slots: Mapping[str, int],
    away: Collection[str],
    waiting: Collection[int] = (),
) -> tuple[Assignment, ...]:
    """Return second attempts for jobs that another host could go on with sooner, as far as slots are free.

    These are the jobs whose only attempt is on a host that is `away`, or is `waiting` for its turn there. A second
    attempt has the mode of the first, because the mode is part of the result, and takes no slot that a pending job
    could use.
    """
    if run.stopped_by is not None:
        return ()
    busy = Counter(attempt.host for attempt in _unbuilt(run))
    wanted = {
        candidate.host for job in run.jobs if job.state is JobState.PENDING for candidate in _preferred(job, candidates)
    }
    assignments: list[Assignment] = []
    for job in run.jobs:
        if job.state is not JobState.ACTIVE or len(job.live) != 1:
            continue
        if not (_is_away(job.live[0], away) or job.live[0].id in waiting):
            continue
        others = [candidate for candidate in _others(job, candidates) if candidate.host not in {*away, *wanted}]
        free = (candidate for candidate in others if busy[candidate.host] < slots.get(candidate.host, 0))
        second = next(free, None)
        if second is not None:
            busy[second.host] += 1
            assignments.append(Assignment(job.id, second))
    return tuple(assignments)


def spare(run: Run, started: Collection[int], away: Collection[str]) -> frozenset[int]:
    """Return the attempts that need not begin to build, because another attempt of their job builds already.

    `started` are the ids of the attempts that build; one on a host that is `away` does not count.
    """
    return frozenset(
        attempt.id
        for job in run.jobs
        for attempt in job.live
        if attempt.is_unbuilt and attempt.id not in started
        for other in job.live
        if other is not attempt and other.host not in away and (not other.is_unbuilt or other.id in started)
    )


def free_elsewhere(
    run: Run,
    attempt: Attempt,
    candidates: Mapping[Platform, Sequence[Candidate]],
    slots: Mapping[str, int],
    away: Collection[str],
) -> bool:
    """Return whether another host of the same mode has a free slot for the job of this attempt."""
    busy = Counter(other.host for other in _unbuilt(run))
    return any(
        candidate.host not in away and busy[candidate.host] < slots.get(candidate.host, 0)
        for candidate in _others(run.job(attempt.job_id), candidates)
    )


def _unbuilt(run: Run) -> list[Attempt]:
    """Return the attempts that hold a slot of their host, or wait for one."""
    return [attempt for job in run.jobs for attempt in job.live if attempt.is_unbuilt]


def _is_away(attempt: Attempt, away: Collection[str]) -> bool:
    return attempt.on_its_host and attempt.host in away


def _others(job: Job, candidates: Mapping[Platform, Sequence[Candidate]]) -> list[Candidate]:
    """Return the hosts of the live attempt's mode that have not had the job."""
    mode, tried = job.live[0].mode, {attempt.host for attempt in job.attempts}
    return [
        candidate
        for candidate in candidates.get(job.platform, ())
        if candidate.mode is mode and candidate.host not in tried
    ]


def turns(
    run: Run, slots: Mapping[str, int], started: Collection[int], spare: Collection[int] = ()
) -> dict[int, tuple[Job, ...]]:
    """Return the attempts that are sent and have to wait to build, by id, with the jobs that build on their host first.

    `started` are the ids of the attempts that build already; then the earliest attempts get the slots of a host, and
    the `spare` ones none. A host without an entry in `slots` makes none wait.
    """
    sent: dict[str, list[tuple[Attempt, Job]]] = {}
    for job in run.jobs:
        for attempt in job.live:
            if attempt.state is AttemptState.BUILDING and attempt.id not in spare:
                sent.setdefault(attempt.host, []).append((attempt, job))
    waiting: dict[int, tuple[Job, ...]] = {}
    for host, there in sent.items():
        there.sort(key=lambda each: (each[0].id not in started, each[0].id))
        count = slots.get(host, len(there))
        first = tuple(job for _, job in there[:count])
        waiting.update((attempt.id, first) for attempt, _ in there[count:])
    return waiting


def demand(able: Iterable[Sequence[Candidate]]) -> Counter[str]:
    """Count the jobs that have each host in their best mode; `able` are the candidates of each job."""
    return Counter(host for hosts in able for host in best_hosts(hosts))


def best_hosts(able: Sequence[Candidate]) -> list[str]:
    """Return the hosts of the best mode."""
    best = min((candidate.mode.rank for candidate in able), default=0)
    return [candidate.host for candidate in able if candidate.mode.rank == best]


def unassignable(run: Run, candidates: Mapping[Platform, Sequence[Candidate]]) -> tuple[Job, ...]:
    """Return the pending jobs that no host can take, now or later."""
    return tuple(job for job in run.jobs if job.state is JobState.PENDING and not _preferred(job, candidates))


def is_tried_again(run: Run, job_id: int, candidates: Mapping[Platform, Sequence[Candidate]]) -> bool:
    """Return whether the job gets another attempt, now that one has ended: the run wants it, and a host can take it."""
    wanted = run.stopped_by is None and SettleJob(job_id, JobEvent.RETRY) in next_actions(run)
    return wanted and bool(_preferred(run.job(job_id), candidates))


def _preferred(job: Job, candidates: Mapping[Platform, Sequence[Candidate]]) -> list[Candidate]:
    able = list(candidates.get(job.platform, ()))
    tried = {attempt.host for attempt in job.attempts}
    untried = [candidate for candidate in able if candidate.host not in tried]
    if job.losses:
        if verdict(job.codes) is Verdict.ELSEWHERE:
            able = untried
        last = [candidate for candidate in able if candidate.host == job.losses[-1].host]
        if last and rule(job.codes[-1]).retry is Retry.ONCE:
            # The host is not at fault, and has the results of the steps before.
            return last
    able = untried or able
    return [candidate for candidate in able if candidate.mode is able[0].mode]
