"""A run as it is stored: its jobs, their attempts and its tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coordinator.domain.causes import Retry, rule
from coordinator.domain.image import references
from coordinator.domain.image.platforms import Mode, Platform
from coordinator.domain.run.history import HistoryEntry
from coordinator.domain.run.lease import Lease
from coordinator.domain.run.states import AttemptState, JobState, TargetState, ended
from coordinator.errors import UsageError

_NOT_BUILT = (AttemptState.ASSIGNED, AttemptState.SENDING, AttemptState.BUILDING)
_ON_ITS_HOST = (*_NOT_BUILT, AttemptState.BUILT, AttemptState.PUSHING)
_KEEPS_ITS_IMAGE = (JobState.LOST, JobState.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a job on one host. Where it ended badly, `code` is the cause and `message` explains it.

    `agent_job` is the name of its job on the host; an adopted attempt has the name that another run gave it. `won`: it
    is PUSHED, and its image is the verified child of its job.
    """

    id: int
    job_id: int
    number: int
    host: str
    mode: Mode
    state: AttemptState
    agent_job: str = ""
    code: str = ""
    message: str = ""
    digest: str = ""
    won: bool = False
    started_at: float = 0.0
    ended_at: float | None = None

    @property
    def is_live(self) -> bool:
        """Whether the attempt has neither ended nor won."""
        return not (self.won or ended(self.state))

    @property
    def on_its_host(self) -> bool:
        """Whether the host still has work to do for the attempt."""
        return self.state in _ON_ITS_HOST

    @property
    def is_unbuilt(self) -> bool:
        """Whether the host has yet to build the image."""
        return self.state in _NOT_BUILT

    @property
    def is_final(self) -> bool:
        """Whether the attempt has failed in a way that no other attempt changes."""
        return self.state is AttemptState.FAILED and rule(self.code).retry is not Retry.ONCE

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
    def live(self) -> tuple[Attempt, ...]:
        """The attempts that have not ended: two at most, while the host of one is away."""
        return tuple(attempt for attempt in self.attempts if attempt.is_live)

    @property
    def losses(self) -> tuple[Attempt, ...]:
        """The attempts that were lost or failed, in the order of their ends."""
        bad = (attempt for attempt in self.attempts if attempt.state in (AttemptState.LOST, AttemptState.FAILED))
        return tuple(sorted(bad, key=lambda attempt: (attempt.ended_at or 0.0, attempt.id)))

    @property
    def codes(self) -> tuple[str, ...]:
        """The causes of `losses`."""
        return tuple(attempt.code for attempt in self.losses)

    @property
    def kept(self) -> Attempt | None:
        """The attempt whose host keeps the image, although the job has ended without it."""
        if self.state not in _KEEPS_ITS_IMAGE:
            return None
        return next((attempt for attempt in self.attempts if attempt.state is AttemptState.BUILT), None)

    @property
    def state_in_words(self) -> str:
        """The state for people: `kept` where a host keeps the image that could not be published."""
        return "kept" if self.kept else self.state

    @property
    def deciding(self) -> Attempt | None:
        """The attempt that tells most about the state of the job: what failed or keeps it, then what is latest."""
        final = next((attempt for attempt in self.attempts if attempt.is_final), None)
        latest = self.attempts[-1] if self.attempts else None
        lost = self.losses[-1] if self.losses and self.state in (JobState.LOST, JobState.FAILED) else None
        return final or self.kept or lost or latest


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
    return job.deciding.ended_at or 0.0 if job.deciding else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One committed step of a run, at epoch seconds; `what` is None for an unknown step of another archloom version."""

    at: float
    what: HistoryEntry | None
    data: Mapping[str, str]
