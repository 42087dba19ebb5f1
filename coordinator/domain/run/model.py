"""A run as it is stored: its jobs, their attempts and its tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coordinator.domain.image import references
from coordinator.domain.image.platforms import Mode, Platform
from coordinator.domain.run.history import HistoryEntry
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
    """One try of a job on one host. Where it ended badly, `code` is the cause and `message` explains it."""

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
        """Whether the host still has work to do for the attempt."""
        return self.state in _ON_ITS_HOST

    @property
    def failure_text(self) -> str:
        """The state and cause of an attempt that failed or was lost: `lost (push): …`. Empty otherwise."""
        if self.state not in (AttemptState.FAILED, AttemptState.LOST):
            return ""
        code = f" ({self.code})" if self.code else ""
        return f"{self.state}{code}" + (f": {self.message}" if self.message else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One platform of the target. `child` is the verified child, as stored (JSON), `None` before verification."""

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
        """The cause of each attempt, in order."""
        return tuple(attempt.code for attempt in self.attempts)


@dataclass(frozen=True, slots=True, kw_only=True)
class TagMove:
    """One tag of the target in one repository: the digest it had before this run, and whether it was moved."""

    reference: str
    previous: str
    moved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that is stored of one run. `request` is the user's request, complete enough to repeat it; `inputs` is
    what it was resolved to when the run began, `inventory` the path of the inventory, '' for none.

    `lease` is None while no coordinator drives the run.
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
        """The tags of the request, as the user wrote them."""
        tags = self.request.get("tags")
        return tuple(map(str, tags)) if isinstance(tags, list) else ()

    @property
    def target_key(self) -> tuple[str, ...]:
        """The key that all runs of one target share, whatever version or commit their tags name.

        It is the first tag's repository, the stage and the Dockerfile's path in the context; empty without tags.
        """
        if not self.asked_tags:
            return ()
        request = {name: str(self.request.get(name, "")) for name in ("context", "dockerfile", "stage")}
        dockerfile = request["dockerfile"].removeprefix(f"{request['context']}/")
        return (references.parse(self.asked_tags[0]).name, request["stage"], dockerfile)

    @property
    def stopped_by(self) -> Job | None:
        """With `--fail-fast`: the job that failed or was lost for good, the first to end where there are several."""
        if not self.request.get("fail_fast"):
            return None
        bad = (job for job in self.jobs if job.state in (JobState.FAILED, JobState.LOST))
        return min(bad, key=_ended_at, default=None)

    @property
    def why_stopped(self) -> str:
        """The reason shown for jobs that `--fail-fast` stops; empty where it stops none."""
        cause = self.stopped_by
        return f"{cause.platform} {cause.state} (--fail-fast)" if cause else ""

    def job(self, job_id: int) -> Job:
        return next(job for job in self.jobs if job.id == job_id)

    def job_of(self, platform: Platform) -> Job:
        """Return the job of a platform that the user named. Raises UsageError where the run has none."""
        named = next((job for job in self.jobs if job.platform == platform), None)
        if named is None:
            platforms = ", ".join(str(job.platform) for job in self.jobs)
            raise UsageError(f"run {self.id} has no {platform}", hint=f"it has {platforms}")
        return named


def _ended_at(job: Job) -> float:
    return job.attempt.ended_at or 0.0 if job.attempt else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One committed step of a run, at epoch seconds; `what` is None for an unknown step of another archloom version."""

    at: float
    what: HistoryEntry | None
    data: Mapping[str, str]
