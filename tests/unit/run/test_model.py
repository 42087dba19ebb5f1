"""A run, its jobs and their attempts: what follows from what is stored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.domain.image.platforms import Mode, parse
from coordinator.domain.run import states
from coordinator.domain.run.job_names import agent_job, run_of
from coordinator.domain.run.model import Attempt, Job, Run
from coordinator.domain.run.states import AttemptState, JobState, TargetState
from coordinator.errors import UsageError

FIRST = Attempt(id=1, job_id=1, number=1, host="pi4", mode=Mode.NATIVE, state=AttemptState.LOST, code="disk")
SECOND = replace(FIRST, id=2, number=2, host="pi5", state=AttemptState.BUILDING, code="")
JOB = Job(id=1, platform=parse("linux/arm/v7"), state=JobState.ACTIVE, build_id="x", attempts=(FIRST, SECOND))
OTHER = Job(id=2, platform=parse("linux/arm64"), state=JobState.PENDING, build_id="y")
RUN = Run(id="7f3a", request={}, target_state=TargetState.OPEN, index_digest="", jobs=(JOB, OTHER))


def test_only_what_was_lost_gives_the_job_a_cause():
    """A live attempt uses up nothing, and a cancelled one neither; the causes are in the order of the ends."""
    late = replace(FIRST, id=3, number=3, code="engine", ended_at=5.0)
    early = replace(FIRST, id=4, number=4, code="reboot", ended_at=4.0)
    cancelled = replace(FIRST, id=5, number=5, state=AttemptState.CANCELLED, code="", ended_at=6.0)

    assert (JOB.codes, OTHER.codes, JOB.live) == (("disk",), (), (SECOND,))
    assert replace(JOB, attempts=(late, early, SECOND, cancelled)).codes == ("reboot", "engine")


BUILT = replace(SECOND, state=AttemptState.BUILT, code="registry")
FAILED = replace(FIRST, state=AttemptState.FAILED, code="build")


@pytest.mark.parametrize(
    ("state", "attempts", "kept", "deciding"),
    [
        (JobState.LOST, (BUILT, FIRST), BUILT, BUILT),
        (JobState.CANCELLED, (FIRST, BUILT), BUILT, BUILT),
        (JobState.VERIFIED, (BUILT, FIRST), None, FIRST),
        (JobState.FAILED, (FAILED, BUILT), None, FAILED),
        (JobState.LOST, (FIRST, replace(SECOND, state=AttemptState.CANCELLED)), None, FIRST),
        (JobState.ACTIVE, (FIRST, SECOND), None, SECOND),
        (JobState.PENDING, (), None, None),
    ],
)
def test_the_attempt_that_tells_how_a_job_stands(state, attempts, kept, deciding):
    """An image is kept only where the job has ended without it, and nothing is wrong with it."""
    job = replace(JOB, state=state, attempts=attempts)

    assert (job.kept, job.deciding) == (kept, deciding)


@pytest.mark.parametrize("state", AttemptState)
def test_a_host_works_on_what_has_neither_ended_nor_been_pushed(state):
    working = not states.ended(state) and state is not AttemptState.PUSHED

    assert replace(FIRST, state=state).on_its_host is working


@pytest.mark.parametrize(
    ("state", "code", "message", "expected"),
    [
        (AttemptState.LOST, "push", "it broke off", "lost (push): it broke off"),
        (AttemptState.FAILED, "build", "", "failed (build)"),
        (AttemptState.FAILED, "", "exit 1", "failed: exit 1"),
        (AttemptState.LOST, "", "", "lost"),
        (AttemptState.CANCELLED, "", "cancelled", ""),
        (AttemptState.PUSHED, "push", "lost before", ""),
    ],
)
def test_the_bad_end_of_an_attempt(state, code, message, expected):
    """State, cause in brackets, and what was said."""
    assert replace(FIRST, state=state, code=code, message=message).failure_text == expected


def test_a_job_is_found_by_its_id_and_by_its_platform():
    assert (RUN.job(1), RUN.job(2)) == (JOB, OTHER)
    assert (RUN.job_of(JOB.platform), RUN.job_of(OTHER.platform)) == (JOB, OTHER)


def test_a_platform_that_the_run_does_not_have_is_refused():
    """The hint lists those that it has."""
    with pytest.raises(UsageError) as caught:
        RUN.job_of(parse("linux/amd64"))

    assert caught.value.hint.endswith(" linux/arm/v7, linux/arm64")


def ended(number: int, state: JobState, at: float | None, *, tried: bool = True) -> Job:
    attempts = (replace(FIRST, ended_at=at),) if tried else ()
    return Job(id=number, platform=parse("linux/arm64"), state=state, build_id="", attempts=attempts)


@pytest.mark.parametrize(
    ("jobs", "cause"),
    [
        ([ended(1, JobState.FAILED, 30.0), ended(2, JobState.LOST, 10.0), ended(3, JobState.LOST, 20.0)], 2),
        ([ended(1, JobState.CANCELLED, 5.0), ended(2, JobState.FAILED, 10.0), ended(3, JobState.VERIFIED, 1.0)], 2),
        # What was lost before any host had it, or by a store without times, was lost first.
        ([ended(1, JobState.LOST, 0.5), ended(2, JobState.LOST, None, tried=False)], 2),
        ([ended(1, JobState.LOST, 0.5), ended(2, JobState.FAILED, None)], 2),
        ([ended(1, JobState.VERIFIED, 1.0), ended(2, JobState.SKIPPED, None, tried=False)], None),
    ],
)
def test_the_first_bad_end_stops_the_run(jobs, cause):
    """With --fail-fast, and never without."""
    run = replace(RUN, jobs=tuple(jobs))

    assert run.stopped_by is None
    assert run.why_stopped == ""
    stopped_by = replace(run, request={"fail_fast": True}).stopped_by
    assert (stopped_by.id if stopped_by else None) == cause


@pytest.mark.parametrize(
    ("request_", "key"),
    [
        (
            {
                "tags": ["nas.lan:5000/app:1"],
                "context": "/app",
                "dockerfile": "/app/x/Dockerfile",
                "stage": "test",
            },
            ("nas.lan:5000/app", "test", "x/Dockerfile"),
        ),
        (
            {"tags": ["nas.lan:5000/app:1"], "context": "/app", "dockerfile": "/app2/Dockerfile"},
            ("nas.lan:5000/app", "", "/app2/Dockerfile"),
        ),
        ({"tags": []}, ()),
        ({"tags": "nas.lan:5000/app:1"}, ()),
        ({}, ()),
    ],
)
def test_the_key_of_a_target(request_, key):
    """Repository, stage, and the Dockerfile's path in the context."""
    assert replace(RUN, request=request_).target_key == key


def test_the_name_of_a_job_on_its_host_leads_back_to_its_run():
    """Run, platform and number: no two attempts have the same."""
    names = {
        agent_job("7f3a", JOB.platform, 1),
        agent_job("7f3a", JOB.platform, 2),
        agent_job("7f3a", OTHER.platform, 1),
    }

    assert names == {"7f3a-armv7-1", "7f3a-armv7-2", "7f3a-arm64-1"}
    assert {run_of(name) for name in names} == {"7f3a"}
