"""A run always ends, whatever happens to its attempts, and a state decides alone what is done next."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.image.platforms import Mode, parse
from coordinator.domain.run import states
from coordinator.domain.run.model import Attempt, Job, Run
from coordinator.domain.run.next_actions import (
    Assign,
    Build,
    Cancel,
    Publish,
    Push,
    Send,
    SettleJob,
    SettleTarget,
    Verify,
    next_actions,
)
from coordinator.domain.run.retry import MAX_ATTEMPTS
from coordinator.domain.run.run_error import run_error
from coordinator.domain.run.states import AttemptEvent, AttemptState, JobEvent, JobState, TargetEvent, TargetState
from coordinator.errors import Exit

PLATFORMS = [parse(text) for text in ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6")]
LOST_CODES = ["connection", "engine", "disk", "memory", "emulator", "reboot", "vanished", "tunnel", "registry"]


def test_every_state_has_a_row_and_every_step_leads_to_a_state():
    """The tables are whole: a state without a row would be a run that cannot go on."""
    for table, kind in (
        (states.ATTEMPT, AttemptState),
        (states.JOB, JobState),
        (states.TARGET, TargetState),
    ):
        assert set(table) == set(kind)
        assert {after for row in table.values() for after in row.values()} <= set(kind)


def test_a_run_can_be_stopped_wherever_it_is():
    """What has not ended can be cancelled or given up in one step: a stopped run has nothing open."""
    for table, stop in (
        (states.ATTEMPT, AttemptEvent.CANCEL),
        (states.JOB, JobEvent.CANCEL),
        (states.TARGET, TargetEvent.GIVE_UP),
    ):
        assert all(states.ended(row[stop]) for row in table.values() if row)


def test_a_lost_push_never_leads_to_a_rebuild():
    """From BUILT on, no step goes back to SENDING or BUILDING."""
    seen, edge = {AttemptState.BUILT}, [AttemptState.BUILT]
    while edge:
        for state in states.ATTEMPT[edge.pop()].values():
            if state not in seen:
                seen.add(state)
                edge.append(state)

    assert seen.isdisjoint({AttemptState.ASSIGNED, AttemptState.SENDING, AttemptState.BUILDING})


def fresh(count: int) -> Run:
    jobs = tuple(Job(id=n, platform=PLATFORMS[n], state=JobState.PENDING, build_id="x") for n in range(count))
    return Run(id="r", request={}, target_state=TargetState.OPEN, index_digest="", jobs=jobs)


def with_job(run: Run, job: Job) -> Run:
    return replace(run, jobs=tuple(job if one.id == job.id else one for one in run.jobs))


def with_attempt(run: Run, attempt: Attempt) -> Run:
    job = run.job(attempt.job_id)
    return with_job(run, replace(job, attempts=tuple(attempt if one.id == attempt.id else one for one in job.attempts)))


def moved(attempt: Attempt, event: AttemptEvent, code: str = "") -> Attempt:
    return replace(attempt, state=states.after(states.ATTEMPT, attempt.state, event), code=code)


def found(run: Run, attempt_id: int) -> Attempt:
    return next(attempt for job in run.jobs for attempt in job.attempts if attempt.id == attempt_id)


def with_another_attempt(run: Run, job_id: int) -> Run:
    """The next attempt of a pending job, or a second one beside the first."""
    job = run.job(job_id)
    attempt = Attempt(
        id=job_id * 100 + len(job.attempts),
        job_id=job_id,
        number=len(job.attempts) + 1,
        host="h",
        mode=Mode.NATIVE,
        state=AttemptState.ASSIGNED,
    )
    event = JobEvent.ASSIGN if job.state is JobState.PENDING else JobEvent.HEDGE
    state = states.after(states.JOB, job.state, event)
    return with_job(run, replace(job, state=state, attempts=(*job.attempts, attempt)))


def cancelled(run: Run, attempt: Attempt) -> Run:
    """As `steps.cancel` does: an image that is being pushed is kept where another job stopped the run."""
    if attempt.state is AttemptState.PUSHING and not states.ended(run.job(attempt.job_id).state):
        run = with_attempt(run, moved(attempt, AttemptEvent.PUSH_LOST))
        return with_job(run, replace(run.job(attempt.job_id), state=JobState.CANCELLED))
    return with_attempt(run, moved(attempt, AttemptEvent.CANCEL))


def given_up(run: Run, attempt: Attempt) -> Run:
    """As `attempt_end.keep` does, after a registry failed for too long."""
    run = with_attempt(run, moved(attempt, AttemptEvent.PUSH_LOST, "registry"))
    return with_job(run, replace(run.job(attempt.job_id), state=JobState.LOST))


def verified(run: Run, attempt: Attempt, choose) -> Run:
    end = choose(["good", "good", "good", "wrong image", "no registry"])
    if end == "good":
        job = with_attempt(run, replace(attempt, won=True)).job(attempt.job_id)
        return with_job(run, replace(job, state=states.after(states.JOB, job.state, JobEvent.VERIFY)))
    if end == "no registry":
        return given_up(run, attempt)
    return with_attempt(run, moved(attempt, AttemptEvent.FAIL, "mismatch"))


def one_step(run: Run, action, choose) -> Run:
    """A shell of a few lines: does one action in a world that `choose` makes go well or badly."""
    match action:
        case Assign(job_id):
            return with_another_attempt(run, job_id)
        case SettleJob(job_id, event):
            job = run.job(job_id)
            return with_job(run, replace(job, state=states.after(states.JOB, job.state, event)))
        case SettleTarget(event):
            return replace(run, target_state=states.after(states.TARGET, run.target_state, event))
        case Publish():
            event = {
                TargetState.READY: TargetEvent.INDEX,
                TargetState.INDEXED: TargetEvent.TAG,
                TargetState.TAGGING: choose([TargetEvent.PUBLISH, TargetEvent.DISAGREE]),
            }[run.target_state]
            return replace(run, target_state=states.after(states.TARGET, run.target_state, event))
        case Cancel(attempt_id):
            return cancelled(run, found(run, attempt_id))
        case Verify(attempt_id):
            return verified(run, found(run, attempt_id), choose)
        case Send(attempt_id) | Build(attempt_id) | Push(attempt_id):
            attempt = found(run, attempt_id)
            never = (AttemptEvent.PUSH_LOST, AttemptEvent.ADOPT)
            event = choose([event for event in states.ATTEMPT[attempt.state] if event not in never])
            if attempt.state is AttemptState.PUSHING and event is AttemptEvent.LOSE and choose([True, False]):
                return given_up(run, attempt)
            return with_attempt(run, moved(attempt, event, choose(LOST_CODES)))


@pytest.mark.parametrize("ends", list(product([state for state in JobState if states.ended(state)], repeat=3)))
def test_a_run_is_published_only_with_every_job_verified(ends):
    """Every way in which three jobs can end."""
    run = fresh(3)
    run = replace(run, jobs=tuple(replace(job, state=state) for job, state in zip(run.jobs, ends, strict=True)))

    whole = set(ends) == {JobState.VERIFIED}
    assert next_actions(run) == (SettleTarget(TargetEvent.COMPLETE if whole else TargetEvent.GIVE_UP),)


@pytest.mark.parametrize("state", [state for state in TargetState if state is not TargetState.OPEN])
def test_a_target_is_published_until_it_has_ended(state):
    """Also one whose index or first tag was written before the coordinator stopped."""
    run = fresh(2)
    jobs = tuple(replace(job, state=JobState.VERIFIED) for job in run.jobs)

    over = states.ended(state)
    assert next_actions(replace(run, jobs=jobs, target_state=state)) == (() if over else (Publish(),))


@given(st.data(), st.integers(1, 4), st.booleans())
def test_every_run_ends_and_is_published_only_whole(data, count, fail_fast):
    """Whatever happens, also with second attempts: the tag is touched only when every job is verified."""

    def choose(options):
        return data.draw(st.sampled_from(options))

    run = replace(fresh(count), request={"fail_fast": fail_fast})
    hedges = 0
    for _ in range(count * 60):
        actions = next_actions(run)
        if not actions:
            break
        single = [job.id for job in run.jobs if job.state is JobState.ACTIVE and len(job.live) == 1]
        if single and hedges < 3 * count and not run.stopped_by and choose([True, False, False]):
            hedges += 1
            run = with_another_attempt(run, choose(single))
            continue
        before = run
        run = one_step(run, choose(actions), choose)
        check_step(before, run)

    assert next_actions(run) == ()
    assert all(states.ended(job.state) for job in run.jobs)
    assert all(len(job.attempts) <= MAX_ATTEMPTS + hedges for job in run.jobs)
    for job in run.jobs:
        assert [attempt for attempt in job.live if attempt != job.kept] == []
        assert sum(attempt.won for attempt in job.attempts) == (job.state is JobState.VERIFIED)


def check_step(before: Run, run: Run) -> None:
    if run.target_state not in (TargetState.OPEN, TargetState.INCOMPLETE):
        assert all(job.state is JobState.VERIFIED for job in run.jobs)
    for earlier, job in zip(before.jobs, run.jobs, strict=True):
        assert len(job.live) <= 2
        verifying = [action for action in next_actions(run) if isinstance(action, Verify)]
        assert len({run.job(found(run, action.attempt_id).job_id).id for action in verifying}) == len(verifying)
        if earlier.state is JobState.ACTIVE and job.state in (JobState.PENDING, JobState.LOST):
            assert job.live == () or job.kept in job.live


@given(st.data(), st.integers(1, 4))
def test_one_platform_failing_leaves_the_others_their_actions(data, count):
    """A job's action depends on that job alone: others go on whatever becomes of it."""
    run = fresh(count)
    failed = data.draw(st.integers(0, count - 1))
    before = {action.job_id for action in next_actions(run)}

    after = {
        a.job_id
        for a in next_actions(with_job(run, replace(run.job(failed), state=JobState.FAILED)))
        if isinstance(a, Assign)
    }

    assert after == before - {failed}


def test_a_failed_build_is_not_tried_again_and_a_lost_one_is():
    """The Dockerfile's fault and the registry's word end the job; what a host lost gives it another attempt."""
    run = one_step(fresh(1), Assign(0), lambda options: options[0])
    attempt = run.jobs[0].attempts[0]

    failed = with_attempt(run, replace(attempt, state=AttemptState.FAILED, code="build"))
    lost = with_attempt(run, replace(attempt, state=AttemptState.LOST, code="connection"))
    full = with_attempt(run, replace(attempt, state=AttemptState.LOST, code="disk"))

    assert next_actions(failed) == (SettleJob(0, JobEvent.FAIL),)
    assert next_actions(lost) == (SettleJob(0, JobEvent.RETRY),)
    refused = with_attempt(run, replace(attempt, state=AttemptState.LOST, code="registry"))
    assert next_actions(full) == (SettleJob(0, JobEvent.RETRY),)
    assert next_actions(refused) == (SettleJob(0, JobEvent.LOSE),)


def stopping(count: int) -> Run:
    return replace(fresh(count), request={"fail_fast": True})


@given(st.data(), st.integers(1, 4))
def test_with_fail_fast_one_bad_end_is_the_end_of_all(data, count):
    """From then on nothing is begun, built or pushed; what runs is cancelled, what waits is skipped."""
    run = stopping(count)
    for _ in range(count * 40):
        actions = next_actions(run)
        if not actions:
            break
        cause = run.stopped_by
        assert not any(isinstance(one, Cancel) for one in actions) or cause
        if cause:
            assert not any(isinstance(one, Assign | Send | Build | Push | Publish) for one in actions)
        run = one_step(run, data.draw(st.sampled_from(actions)), lambda options: data.draw(st.sampled_from(options)))
        if cause:
            assert run.job(cause.id).state == cause.state

    assert next_actions(run) == ()
    assert all(states.ended(job.state) for job in run.jobs)
    assert [attempt for job in run.jobs for attempt in job.live if attempt != job.kept] == []
    if not run.stopped_by:
        assert JobState.SKIPPED not in {job.state for job in run.jobs}


@given(st.data(), st.integers(1, 4))
def test_without_fail_fast_nothing_is_stopped(data, count):
    """A bad end is that job's own; nobody else's attempt is cancelled and no job is skipped."""
    run = fresh(count)
    while actions := next_actions(run):
        assert run.stopped_by is None
        assert not any(isinstance(one, Cancel) for one in actions)
        assert JobEvent.SKIP not in [one.event for one in actions if isinstance(one, SettleJob)]
        run = one_step(run, data.draw(st.sampled_from(actions)), lambda options: data.draw(st.sampled_from(options)))


@pytest.mark.parametrize(
    ("state", "action"),
    [
        (AttemptState.ASSIGNED, Cancel),
        (AttemptState.BUILDING, Cancel),
        (AttemptState.PUSHING, Cancel),
        (AttemptState.PUSHED, Verify),
    ],
)
def test_fail_fast_cancels_what_a_host_still_works_on(state, action):
    """What has been pushed already is verified all the same: it spares the next run a build."""
    run = stopping(2)
    run = with_job(run, replace(run.job(0), state=JobState.LOST))
    run = one_step(run, Assign(1), lambda options: options[0])
    run = with_attempt(run, replace(run.job(1).attempts[0], state=state))

    assert next_actions(run) == (action(run.job(1).attempts[0].id),)
    assert run.why_stopped == "linux/amd64 lost (--fail-fast)"


@pytest.mark.parametrize("stopped", [False, True])
def test_the_latest_attempt_is_the_one_that_goes_on(stopped):
    """What was lost before it asks for nothing."""
    run = replace(fresh(2), request={"fail_fast": stopped})
    run = with_job(run, replace(run.job(0), state=JobState.LOST))
    for number in (1, 2):
        run = one_step(run, Assign(1), lambda options: options[0])
        if number == 1:
            run = with_attempt(run, replace(run.job(1).attempts[0], state=AttemptState.LOST, code="reboot"))
            run = with_job(run, replace(run.job(1), state=JobState.PENDING))

    assert next_actions(run) == ((Cancel if stopped else Send)(run.job(1).attempts[1].id),)


def test_the_cause_of_a_stop_speaks_for_the_run():
    """Its exit code and its log; of the others it is said what became of them and because of whom."""
    run = stopping(3)
    for number, (state, code) in enumerate(
        [(JobState.CANCELLED, ""), (JobState.SKIPPED, ""), (JobState.FAILED, "build")]
    ):
        run = one_step(run, Assign(number), lambda options: options[0])
        attempt = replace(run.job(number).attempts[0], code=code, ended_at=float(number))
        run = with_job(run, replace(run.job(number), state=state, attempts=(attempt,)))

    error = run_error(run, "nas/app:1")

    assert error.exit_code is Exit.BUILD_FAILED
    assert error.message == (
        "3 of 3 platforms not built: linux/arm/v7 failed; linux/amd64 cancelled, linux/arm64 skipped "
        "because of linux/arm/v7 (--fail-fast); nas/app:1 not touched"
    )
    assert error.hint == "the whole log: archloom logs r linux/arm/v7"


@pytest.mark.parametrize(
    ("request_", "same"),
    [
        ({"tags": ["nas.lan:5000/app:2", "ghcr.io/ann/app:2"]}, True),
        ({"context": "/elsewhere", "dockerfile": "/elsewhere/Dockerfile"}, True),
        ({"build_args": {"A": "b"}, "platforms": ["linux/arm64"]}, True),
        ({"tags": ["nas.lan:5000/other:1"]}, False),
        ({"stage": "test"}, False),
        ({"dockerfile": "/app/deploy/Dockerfile"}, False),
        ({"tags": []}, False),
    ],
)
def test_which_runs_are_of_one_target(request_, same):
    """Who tags by version or commit asks what changed since the last one; a checkout may lie elsewhere each time."""
    one = {"tags": ["nas.lan:5000/app:1"], "context": "/app", "dockerfile": "/app/Dockerfile", "stage": ""}
    runs = [
        Run(id="1", request=asked, target_state=TargetState.OPEN, index_digest="", jobs=())
        for asked in (one, {**one, **request_})
    ]

    assert (runs[0].target_key == runs[1].target_key) is same
