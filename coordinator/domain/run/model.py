"""A run as it is stored, with its jobs, their attempts and its tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coordinator.domain.image import references
from coordinator.domain.image.platforms import Mode, Platform
from coordinator.domain.run.history import Step
from coordinator.domain.run.lease import Lease
from coordinator.domain.run.states import AttemptState, JobState, TargetState
from coordinator.errors import UsageError

_ON_ITS_HOST = (
    AttemptState.ASSIGNED,
    AttemptState.SENDING,
    AttemptState.BUILDING,
    AttemptState.BUILT,
    AttemptState.PUSHING,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a job on one host. `code` and `message` say why it ended, where it ended badly."""

    id: int
    job_id: int
    number: int
    host: str
    mode: Mode
    state: AttemptState
    code: str = ""
    message: str = ""
    digest: str = ""
    started_at: float = 0.0
    ended_at: float | None = None

    @property
    def on_its_host(self) -> bool:
        """Whether the host still has something to do for it."""
        return self.state in _ON_ITS_HOST

    @property
    def bad_end(self) -> str:
        """How it ended, and why, where it ended badly: `lost (push): …`. Empty otherwise."""
        if self.state not in (AttemptState.FAILED, AttemptState.LOST):
            return ""
        code = f" ({self.code})" if self.code else ""
        return f"{self.state}{code}" + (f": {self.message}" if self.message else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One platform of the target. `child` is what was verified, as the store keeps it (JSON), `None` before."""

    id: int
    platform: Platform
    state: JobState
    build_id: str
    reused: bool = False
    child: Mapping[str, object] | None = None
    attempts: tuple[Attempt, ...] = ()

    @property
    def attempt(self) -> Attempt | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def codes(self) -> tuple[str, ...]:
        """Why the attempts ended, in their order."""
        return tuple(attempt.code for attempt in self.attempts)


@dataclass(frozen=True, slots=True, kw_only=True)
class TagMove:
    """One tag of the target in one repository: what it was before this run, and whether it is moved."""

    reference: str
    previous: str
    moved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that is stored of one run. `request` is what the user asked, enough to ask it again; `inputs` is what
    it was resolved to when the run began, `inventory` the file of hosts, '' for none.

    `lease` is there while somebody drives the run.
    """

    id: str
    request: Mapping[str, object]
    target_state: TargetState
    index_digest: str
    jobs: tuple[Job, ...]
    tags: tuple[TagMove, ...] = ()
    created_at: float = 0.0
    finished_at: float | None = None
    exit_code: int | None = None
    inputs: Mapping[str, object] = field(default_factory=dict)
    inventory: str = ""
    lease: Lease | None = None
    cancel_asked: bool = False

    @property
    def asked_tags(self) -> tuple[str, ...]:
        """The tags that were asked for, as they were asked for."""
        tags = self.request.get("tags")
        return tuple(map(str, tags)) if isinstance(tags, list) else ()

    @property
    def target_key(self) -> tuple[str, ...]:
        """What the runs of one target share, by whatever version or commit they are tagged: the first tag's repository,
        the stage and the Dockerfile's place in the context. Empty where nothing was to be published."""
        if not self.asked_tags:
            return ()
        request = {name: str(self.request.get(name, "")) for name in ("context", "dockerfile", "stage")}
        dockerfile = request["dockerfile"].removeprefix(f"{request['context']}/")
        return (references.parse(self.asked_tags[0]).name, request["stage"], dockerfile)

    @property
    def stopped_by(self) -> Job | None:
        """With `--fail-fast`: the job that ended badly and for good, the first to end where there are several."""
        if not self.request.get("fail_fast"):
            return None
        bad = (job for job in self.jobs if job.state in (JobState.FAILED, JobState.LOST))
        return min(bad, key=_ended_at, default=None)

    @property
    def why_stopped(self) -> str:
        """What the other jobs are told, empty where none is stopped."""
        cause = self.stopped_by
        return f"{cause.platform} {cause.state} (--fail-fast)" if cause else ""

    def job(self, job_id: int) -> Job:
        return next(job for job in self.jobs if job.id == job_id)

    def job_of(self, platform: Platform) -> Job:
        """The job of a platform that a person named. Raises UsageError where the run has none."""
        found = next((job for job in self.jobs if job.platform == platform), None)
        if found is None:
            has = ", ".join(str(job.platform) for job in self.jobs)
            raise UsageError(f"run {self.id} has no {platform}", hint=f"it has {has}")
        return found


def _ended_at(job: Job) -> float:
    return job.attempt.ended_at or 0.0 if job.attempt else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One committed step of a run, at epoch seconds; `what` is None for one that another archloom wrote."""

    at: float
    what: Step | None
    data: Mapping[str, str]
