"""The error that a command reports for a finished run, if any."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.domain.causes import Cause, rule
from coordinator.domain.dockerfile.newer_syntax import SYNTAX_HINT
from coordinator.domain.run.model import Job, Run
from coordinator.domain.run.old_frontend import is_frontend_error
from coordinator.domain.run.states import JobState
from coordinator.errors import ArchloomError, BuildFailedError, Exit, LostError, RegistryError, UsageError, worst


def run_error(run: Run, tags: str) -> ArchloomError | None:
    """Return the error of a run with platforms that were not verified, else None; `tags` are those to be published."""
    bad = [job for job in run.jobs if job.state is not JobState.VERIFIED]
    if not bad:
        return None
    if all(job.state is JobState.SKIPPED for job in bad):
        return _left_out(run, bad, tags)
    cause = run.stopped_by
    # Jobs that --fail-fast stopped do not decide the error.
    by_itself = [job for job in bad if cause is None or job.state in (JobState.FAILED, JobState.LOST)]
    summary = ", ".join(map(_said, by_itself))
    if cause is not None and (stopped := [job for job in bad if job not in by_itself]):
        summary = f"{summary}; {', '.join(map(_said, stopped))} because of {cause.platform} (--fail-fast)"
    what = "published" if any(job.kept for job in bad) else "built"
    message = f"{len(bad)} of {len(run.jobs)} platforms not {what}: {summary}; {tags} not touched"
    hint = _hint(run, cause or next((job for job in by_itself if job.attempts), None))
    match worst([_exit(job) for job in by_itself]):
        case Exit.REGISTRY:
            return RegistryError(message, hint=hint)
        case Exit.BUILD_FAILED:
            return BuildFailedError(message, hint=hint)
        case _:
            return LostError(message, hint=hint)


def _left_out(run: Run, bad: Sequence[Job], tags: str) -> ArchloomError:
    """Return the error of a run that verified all it was to build, but left out platforms that the tags need."""
    built = ", ".join(str(job.platform) for job in run.jobs if job.state is JobState.VERIFIED)
    missing = ", ".join(str(job.platform) for job in bad)
    message = f"{built} built and kept; {tags} not touched, for want of {missing}, which was left out"
    return UsageError(message, hint=f"archloom retry {run.id}", code="left_out")


def _hint(run: Run, shown: Job | None) -> str:
    """`shown` is the job with the most useful log, `None` where no attempt was begun."""
    if shown is None:
        return f"build what is missing: archloom retry {run.id}"
    if any(job.kept for job in run.jobs):
        return f"publish it without building it again: archloom retry {run.id}"
    if shown.deciding is not None and rule(shown.deciding.code).may_return:
        return f"when {shown.deciding.host} answers again: archloom retry {run.id}"
    log = f"the whole log: archloom logs {run.id} {shown.platform}"
    is_old = shown.deciding is not None and is_frontend_error(shown.deciding.message)
    cure = SYNTAX_HINT if is_old else rule(_code(shown)).hint
    return f"{cure}\n{log}" if cure else log


def _said(job: Job) -> str:
    code = _code(job)
    because = f" ({code})" if code and code != Cause.BUILD else ""
    if job.kept:
        return f"{job.platform} built and kept on {job.kept.host}{because}"
    return f"{job.platform} {job.state}{because}"


def _code(job: Job) -> str:
    return job.deciding.code if job.deciding else ""


def _exit(job: Job) -> Exit:
    code = _code(job)
    if rule(code).exit_code is Exit.REGISTRY:
        return Exit.REGISTRY
    return Exit.BUILD_FAILED if job.state is JobState.FAILED else Exit.LOST
