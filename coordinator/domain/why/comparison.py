"""Compare a run with the previous one: the timelines of their jobs side by side, and what changed between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from coordinator.domain.clock_steps import continuous
from coordinator.domain.image.platforms import Platform
from coordinator.domain.run import states
from coordinator.domain.run.events import Event, Notice, RunEnded
from coordinator.domain.run.job_names import adopted_from
from coordinator.domain.run.model import Job, Run, StoredEvent
from coordinator.domain.run.states import JobState
from coordinator.domain.run.status import Status
from coordinator.domain.why.built_from import BuiltFrom
from coordinator.domain.why.changes import Change, changes
from coordinator.domain.why.entries import Entry, TimelineKind
from coordinator.domain.why.from_store import job_timeline, run_timeline
from coordinator.domain.why.registry_waits import run_waits
from coordinator.domain.why.timeline import pair_entries, timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Everything known of a run: its state, its committed steps, its recorded events, its inputs."""

    run: Run
    status: Status
    committed: Sequence[StoredEvent] = field(default=(), repr=False)
    recorded: Sequence[tuple[float, Event]] = field(default=(), repr=False)
    built_from: BuiltFrom


@dataclass(frozen=True, slots=True, kw_only=True)
class JobComparison:
    """`why` says why the job was built or not; each entry is paired with its counterpart in the previous run."""

    job: Job
    why: str
    entries: tuple[tuple[Entry, Entry | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """`before` is the previous run of the same target; without it `changes` is empty. `seconds` is None for a run that
    is not over."""

    run: Run
    status: Status
    seconds: float | None
    before: Run | None
    before_status: Status | None
    before_seconds: float | None
    changes: tuple[Change, ...]
    entries: tuple[Entry, ...]
    jobs: tuple[JobComparison, ...]


def compare(
    now: Sources, before: Sources | None, platforms: Sequence[Platform], build_platform: Platform
) -> RunComparison:
    """Return the comparison for these platforms. `build_platform` stands in for the building host's platform."""
    now, before = _continuous(now), _continuous(before) if before else None
    jobs = [job for job in now.run.jobs if job.platform in platforms]
    return RunComparison(
        run=now.run,
        status=now.status,
        seconds=_seconds(now),
        before=before.run if before else None,
        before_status=before.status if before else None,
        before_seconds=_seconds(before) if before else None,
        changes=changes(before.built_from, now.built_from, platforms, build_platform) if before else (),
        entries=_of_run(now),
        jobs=tuple(_of_job(job, now, before) for job in jobs),
    )


def _continuous(known: Sources) -> Sources:
    """Return the sources with times that never fall: one of the coordinators may have set its clock back."""
    committed = [replace(event, at=at) for at, event in continuous((event.at, event) for event in known.committed)]
    return replace(known, committed=committed, recorded=list(continuous(known.recorded)))


def _seconds(known: Sources) -> float | None:
    """Return the duration of the run; None where it is not over.

    The recorded duration counts where it is longer, since a build begins before its run is created. The stored times
    count where they are longer, since the last driver of a resumed run reports only its own time.
    """
    if known.run.finished_at is None:
        return None
    seconds = (event.seconds for _, event in known.recorded if isinstance(event, RunEnded))
    end = known.committed[-1].at if known.committed else known.run.finished_at
    return max(end - known.run.created_at, *seconds, 0.0)


def _of_run(known: Sources) -> tuple[Entry, ...]:
    notices = (
        Entry(at=at, kind=TimelineKind.NOTE, name="notice", text=event.text)
        for at, event in known.recorded
        if isinstance(event, Notice)
    )
    entries = (*run_timeline(known.run, known.committed), *notices, *run_waits(known.recorded))
    return tuple(sorted(entries, key=lambda entry: entry.at))


def _of_job(job: Job, now: Sources, before: Sources | None) -> JobComparison:
    earlier = (
        next((earlier_job for earlier_job in before.run.jobs if earlier_job.platform == job.platform), None)
        if before
        else None
    )
    entries = (*_plan(job, now), *_entries(job, now))
    return JobComparison(
        job=job,
        why=_why(job, now, before.run if before else None, earlier),
        entries=pair_entries(entries, _entries(earlier, before) if before and earlier else ()),
    )


def _plan(job: Job, now: Sources) -> Iterator[Entry]:
    """Yield which hosts were to build the job and which were not, hosts with the same reason in one entry."""
    hosts: dict[tuple[str, str, str], list[str]] = {}
    for row in now.built_from.kept.plan if now.built_from.kept else ():
        if row.platform == str(job.platform):
            hosts.setdefault((row.verdict, row.mode, row.reason), []).append(row.host)
    for (verdict, mode, reason), names in hosts.items():
        decision = f"{', '.join(names)} {verdict} ({mode})" if mode else f"not {', '.join(names)}"
        yield Entry(at=now.run.created_at, kind=TimelineKind.NOTE, name="plan", text=f"plan: {decision}: {reason}")


def _entries(job: Job, known: Sources) -> tuple[Entry, ...]:
    return timeline(known.recorded, job.platform) or job_timeline(job, known.committed)


def _why(job: Job, now: Sources, before: Run | None, earlier: Job | None) -> str:
    unstable = now.built_from.kept.unstable if now.built_from.kept else ()
    if job.reused:
        return "reused, since nothing it depends on has changed since it was built"
    if not job.attempts:
        return "never on a host" if states.ended(job.state) else "not on any host yet"
    done = _done(job)
    builders = {adopted_from(now.run.id, attempt.agent_job) for attempt in job.attempts if attempt.won}
    if any(builders):
        return f"published, with the image that run {''.join(builders)} built"
    if unstable:
        return f"{done}, since nothing is reused: {'; '.join(unstable)}"
    if before is None:
        return f"{done}; no earlier run of this target is stored on this machine"
    if earlier is None:
        return f"{done}; run {before.id} did not have it"
    if earlier.build_id != job.build_id:
        return f"{done}, since what it depends on has changed since run {before.id}"
    if earlier.state is not JobState.VERIFIED:
        return f"{done}, since run {before.id} did not finish it"
    if earlier.child is not None and earlier.child.get("pin") == "":
        return f"{done} again, since the registry keeps no pins, or no longer has the image of run {before.id}"
    return f"{done} again, since the registry did not have the image of run {before.id}, or not a matching one"


def _done(job: Job) -> str:
    """Return what the hosts did with the job; the output shows the job's state before it."""
    if job.state is JobState.VERIFIED:
        return "built"
    if job.kept:
        return f"built, and not published: {job.kept.host} keeps the image"
    return "tried" if states.ended(job.state) else "being built"
