"""The end of an attempt: what is committed, what is told, and what is left on the host."""

from __future__ import annotations

import asyncio

import pytest

from coordinator.domain.run.build_log import StepReader
from coordinator.domain.run.events import AttemptEnded, Kept
from coordinator.domain.run.states import AttemptEvent, AttemptState, JobEvent, JobState, TargetState
from coordinator.errors import LostError
from coordinator.run.steps.attempt_end import cancelled, failed, forget, lost
from coordinator.run.steps.cancel import cancel, cancel_run
from tests.edges.run.step_bed import BUILDING, BUILT, PUSHED, RUN, StepBed

NAME = "7f3a-amd64-1"
LOG = "#1 [1/1] RUN make\n#1 0.1 no such file\n#1 ERROR: exit code: 1\n"


def told(bed: StepBed) -> AttemptEnded:
    (event,) = (event for event in bed.events if isinstance(event, AttemptEnded))
    return event


async def test_a_failed_build_is_stored_told_and_deleted_on_its_host(steps):
    reader = StepReader()
    reader.feed(LOG)
    ctx = steps.attempt(*BUILDING)

    await failed(ctx, "build", "exit code: 1", reader)

    ended = steps.ended()
    assert (ended.state, ended.code, ended.message) == (AttemptState.FAILED, "build", "exit code: 1")
    assert told(steps) == AttemptEnded(
        place=ctx.place,
        state="failed",
        code="build",
        message="exit code: 1",
        step="[1/1] RUN make",
        tail=("no such file",),
        again=False,
    )
    assert steps.client.asked == [("forget", NAME)]


@pytest.mark.parametrize(
    ("code", "again", "is_asked"),
    [
        ("engine", True, True),
        ("reboot", True, True),
        ("connection", True, False),
        ("unreachable", False, False),
        ("disk", False, True),
        ("registry", False, True),
    ],
)
async def test_a_lost_attempt_says_whether_this_host_may_have_the_next(steps, code, again, is_asked):
    """A host that does not answer is not asked to clean up."""
    await lost(steps.attempt(*BUILDING), code, "it was lost")

    assert (steps.ended().state, steps.ended().code) == (AttemptState.LOST, code)
    assert (told(steps).again, told(steps).step, told(steps).tail) == (again, "", ())
    assert steps.client.asked == ([("forget", NAME)] if is_asked else [])


@pytest.mark.parametrize(("code", "again"), [("engine", False), ("emulator", True)])
async def test_a_second_loss_with_the_same_cause_is_no_hiccup(steps, code, again):
    await lost(steps.attempt(*BUILDING), "engine", "it was lost")
    steps.store.move_job(steps.job().id, JobEvent.RETRY)
    steps.events.clear()

    await lost(steps.attempt(*BUILDING), code, "it was lost")

    assert told(steps).again is again


@pytest.mark.parametrize("other", [JobEvent.FAIL, JobEvent.CANCEL])
async def test_a_run_that_another_job_has_stopped_tries_nothing_again(hasty_steps, other):
    """With --fail-fast, after a bad end: a cancelled job stops nothing."""
    ctx, stopper = hasty_steps.attempt(*BUILDING), hasty_steps.attempt(*BUILDING, job=1)
    hasty_steps.store.move_attempt(stopper.attempt.id, AttemptEvent.CANCEL)
    hasty_steps.store.move_job(stopper.job.id, other)

    await lost(ctx, "connection", "it was lost")

    assert told(hasty_steps).again is (other is JobEvent.CANCEL)


async def test_a_cancelled_attempt_has_no_cause(steps):
    await cancelled(steps.attempt(*BUILDING))

    assert (steps.ended().state, steps.ended().code) == (AttemptState.CANCELLED, "")
    assert told(steps).state == "cancelled"
    assert steps.client.asked == [("forget", NAME)]


@pytest.mark.parametrize("error", [LostError("it is off", code="unreachable"), TimeoutError()])
async def test_a_host_that_does_not_forget_is_no_error(steps, error):
    """The next run that uses it sweeps it."""
    ctx = steps.attempt(*BUILDING)
    steps.farm.unreachable = error

    await forget(ctx)
    await failed(ctx, "build", "exit code: 1")

    assert steps.ended().state is AttemptState.FAILED


async def deleted(bed: StepBed) -> None:
    """Waits until the hosts have deleted what they were asked to."""
    async with asyncio.timeout(10):
        await bed.run.deletions.finish(bed.events.append)


async def test_an_attempt_that_is_not_wanted_ends_in_the_store_and_then_on_its_host(hasty_steps):
    """With the job that stopped it as the reason."""
    stopper, ctx = hasty_steps.attempt(*BUILDING, job=1), hasty_steps.attempt(*BUILDING)
    hasty_steps.store.move_attempt(stopper.attempt.id, AttemptEvent.FAIL, code="build")
    hasty_steps.store.move_job(stopper.job.id, JobEvent.FAIL)
    stored = []
    hasty_steps.client.does["forget"] = lambda: stored.append(hasty_steps.ended().state)

    await cancel(ctx)
    await deleted(hasty_steps)

    assert stored == [AttemptState.CANCELLED]
    assert hasty_steps.client.asked == [("forget", NAME)]
    assert hasty_steps.ended().message == hasty_steps.store.run(RUN).why_stopped != ""
    assert told(hasty_steps).code == ""


async def test_an_image_that_is_being_pushed_is_kept_when_another_job_stops_the_run(hasty_steps):
    """It is built: a retry publishes it. Its push ends on the host."""
    stopper, ctx = hasty_steps.attempt(*BUILDING, job=1), hasty_steps.attempt(*PUSHED[:-1])
    hasty_steps.store.move_attempt(stopper.attempt.id, AttemptEvent.FAIL, code="build")
    hasty_steps.store.move_job(stopper.job.id, JobEvent.FAIL)

    await cancel(ctx)

    assert hasty_steps.job().state is JobState.CANCELLED
    assert hasty_steps.job().kept == hasty_steps.ended()
    assert hasty_steps.client.asked == [("cancel", NAME)]
    assert isinstance(hasty_steps.events[-1], Kept)


async def test_the_second_attempt_of_a_verified_job_is_cancelled(steps):
    """Also one that is pushed. A host that does not answer is named: it may still build there."""
    winner, loser = steps.attempt(*PUSHED), steps.attempt(*PUSHED)
    steps.store.verify_job(winner.job.id, {"digest": "sha256:c"}, winner=winner.attempt.id)
    steps.run.hosts.set(away="pi4")

    await cancel(steps.run.attempt(loser.attempt.id))

    assert [attempt.state for attempt in steps.job().attempts] == [AttemptState.PUSHED, AttemptState.CANCELLED]
    assert steps.client.asked == []
    assert "pi4 does not answer: it may still have the image of linux/amd64" in steps.events[-1].text


async def test_what_has_ended_or_won_is_not_cancelled(steps):
    winner = steps.attempt(*PUSHED)
    steps.store.verify_job(winner.job.id, {"digest": "sha256:c"}, winner=winner.attempt.id)
    lost = steps.attempt(*BUILDING, AttemptEvent.FAIL, job=1)

    for ctx in (steps.run.attempt(winner.attempt.id), lost):
        await cancel(ctx)

    assert (steps.events, steps.client.asked) == ([], [])


async def test_a_cancelled_run_has_nothing_open(steps):
    """Its attempts, its jobs and its target, in the store before any host is asked."""
    steps.attempt(*BUILDING)
    stored = []
    steps.client.does["forget"] = lambda: stored.append(steps.store.run(RUN).target_state)

    await cancel_run(steps.run)

    run = steps.store.run(RUN)
    assert [job.state for job in run.jobs] == [JobState.CANCELLED, JobState.CANCELLED]
    assert (run.target_state, steps.ended().state) == (TargetState.INCOMPLETE, AttemptState.CANCELLED)
    assert (told(steps).state, told(steps).code) == ("cancelled", "")
    assert stored == [TargetState.INCOMPLETE]
    assert steps.client.asked == [("forget", NAME)]


@pytest.mark.parametrize(("steps_before", "asked"), [(BUILT, []), (PUSHED[:-1], [("cancel", NAME)]), (PUSHED, [])])
async def test_a_cancelled_run_keeps_what_is_built(steps, steps_before, asked):
    """A retry publishes it without a build."""
    steps.attempt(*steps_before)

    await cancel_run(steps.run)

    assert steps.job().state is JobState.CANCELLED
    assert steps.job().kept == steps.ended()
    assert steps.client.asked == asked


async def test_a_cancelled_run_ends_the_second_attempt_of_a_job_that_was_given_up(steps):
    """Its image is kept on one host; the other host has nothing more to do."""
    kept, second = steps.attempt(*PUSHED[:-1]), steps.attempt(*PUSHED[:-1])
    await lost(kept, "registry", "it answers 503")

    await cancel_run(steps.run)

    states = [attempt.state for attempt in steps.job().attempts]
    assert states == [AttemptState.BUILT, AttemptState.CANCELLED]
    assert steps.client.asked == [("forget", second.agent_job)]


@pytest.mark.parametrize("before", [PUSHED[:-1], PUSHED])
async def test_a_registry_that_fails_for_good_leaves_the_image_on_its_host(steps, before):
    """The job is lost, the attempt is not: it stays BUILT, with the registry's words."""
    ctx = steps.attempt(*before)

    await lost(ctx, "registry", "it answers 503")

    assert (steps.job().state, steps.job().kept) == (JobState.LOST, steps.ended())
    assert (steps.ended().state, steps.ended().code) == (AttemptState.BUILT, "registry")
    assert steps.events == [Kept(place=ctx.place, code="registry", message="it answers 503")]
    assert steps.client.asked == []


async def test_cancelling_a_run_leaves_what_has_ended(steps):
    """A verified job keeps its child and its attempt; a second time nothing is left to do."""
    ctx = steps.attempt(*PUSHED)
    steps.store.verify_job(ctx.job.id, {"digest": "sha256:c"}, winner=ctx.attempt.id)

    await cancel_run(steps.run)
    run = steps.store.run(RUN)
    await cancel_run(steps.run)

    assert [job.state for job in run.jobs] == [JobState.VERIFIED, JobState.CANCELLED]
    assert run.jobs[0].attempts[0].state is AttemptState.PUSHED
    assert steps.store.run(RUN) == run
    assert (steps.events, steps.client.asked) == ([], [])
