"""Images that a run left on their hosts: who may have them, and until when."""

from __future__ import annotations

import pytest

from coordinator.domain.image.platforms import Mode
from coordinator.domain.run.states import AttemptEvent, AttemptState, JobEvent, JobState
from coordinator.errors import ArchloomError
from coordinator.store.sqlite import Store
from tests.edges.store.store_bed import AMD64, ARM64, CHILD, TO_PUSHED, assigned, create, end

BUILD_ID = "b" * 64
BUILT = TO_PUSHED[:3]


def gave_up(store: Store, run_id: str = "7f3a", host: str = "pi5") -> str:
    """A run that ended with linux/amd64 built and kept; the name of its job on the host."""
    job = create(store, run_id).jobs[0]
    made = assigned(store, job.id, *BUILT, host=host)
    store.move_job(job.id, JobEvent.LOSE)
    end(store, run_id, 6)
    return made.agent_job


def test_an_ended_run_leaves_what_it_built(store):
    """By build id and platform; nobody sweeps it, and the attempt has not ended."""
    name = gave_up(store)

    (kept,) = store.kept_attempts(BUILD_ID, AMD64)

    assert (kept.host, kept.state, kept.agent_job) == ("pi5", AttemptState.BUILT, name)
    assert store.kept_attempts("a" * 64, ARM64) == store.kept_attempts(BUILD_ID, ARM64) == ()
    assert not store.is_obsolete(name)


def test_a_run_that_has_not_ended_keeps_nothing_for_others(store):
    assigned(store, create(store).jobs[0].id, *BUILT)

    assert store.kept_attempts(BUILD_ID, AMD64) == ()


def test_a_later_run_takes_it_over(store):
    """Under the name it has on its host; the run before has it no longer, and a second one gets nothing."""
    name = gave_up(store)
    (kept,) = store.kept_attempts(BUILD_ID, AMD64)
    later = create(store, "later").jobs[0]

    adopted = store.adopt(later.id, kept)

    assert adopted is not None
    assert (adopted.state, adopted.agent_job, adopted.number) == (AttemptState.BUILT, name, 1)
    now = store.run("later").jobs[0]
    assert (now.state, now.attempts) == (JobState.ACTIVE, (adopted,))
    (before,) = store.run("7f3a").jobs[0].attempts
    assert (before.state, before.message) == (AttemptState.CANCELLED, "taken over by run later")
    assert [str(event.what) for event in store.events("later")][-1] == "attempt linux/amd64 1 assigned adopt built"
    assert store.adopt(create(store, "third").jobs[0].id, kept) is None
    assert not store.is_obsolete(name)


def test_it_is_obsolete_once_the_run_that_took_it_over_has_ended_without_it(store):
    """Verified, or given up for good."""
    name = gave_up(store)
    (kept,) = store.kept_attempts(BUILD_ID, AMD64)
    adopted = store.adopt(create(store, "later").jobs[0].id, kept)
    for event in TO_PUSHED[3:]:
        store.move_attempt(adopted.id, event)

    assert store.verify_job(adopted.job_id, CHILD, winner=adopted.id)

    assert store.is_obsolete(name)


def test_what_is_published_is_kept_no_longer(store):
    """Also where another host built it, or the registry had it: the same build id names the same image."""
    names = {gave_up(store, "one"), gave_up(store, "two", "pi4")}
    later = create(store, "later").jobs[0]

    store.verify_job(later.id, CHILD, winner=None)

    assert store.kept_attempts(BUILD_ID, AMD64) == ()
    assert {store.is_obsolete(name) for name in names} == {True}
    (was,) = store.run("one").jobs[0].attempts
    assert (was.state, was.message) == (AttemptState.CANCELLED, "published by run later")


@pytest.mark.parametrize("end_of_it", [AttemptEvent.LOSE, AttemptEvent.CANCEL])
def test_a_job_of_an_ended_attempt_is_obsolete_in_its_own_run(store, end_of_it):
    """What was lost with its host is deleted as soon as that answers."""
    job = create(store).jobs[0]
    attempt = assigned(store, job.id, AttemptEvent.SEND)

    before = store.is_obsolete(attempt.agent_job)
    store.move_attempt(attempt.id, end_of_it)

    assert (before, store.is_obsolete(attempt.agent_job)) == (False, True)


def test_nobody_else_s_jobs_are_obsolete(store):
    """Of another user, or of a run that this store has not."""
    gave_up(store)

    assert not store.is_obsolete("c0ffee-amd64-1")
    assert store.is_obsolete("7f3a-amd64-9")


def test_a_second_attempt_is_on_another_host(store):
    """And there is no third."""
    job = create(store).jobs[0]
    store.assign(job.id, "pi5", Mode.NATIVE)

    with pytest.raises(ArchloomError):
        store.assign(job.id, "pi5", Mode.NATIVE)
    second = store.assign(job.id, "pi4", Mode.NATIVE)
    with pytest.raises(ArchloomError):
        store.assign(job.id, "pi3", Mode.NATIVE)

    assert (second.number, second.agent_job) == (2, "7f3a-amd64-2")
    assert [str(event.what) for event in store.events("7f3a")][-1] == "job linux/amd64 active hedge active"
