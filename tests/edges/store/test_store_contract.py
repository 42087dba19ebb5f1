"""What every store owes its callers, whatever it keeps them in: runs with jobs and attempts, and what is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.domain.hosts.last_probe import LastProbe
from coordinator.domain.image.platforms import Mode
from coordinator.domain.inputs.pins import KnownChild
from coordinator.domain.run.states import (
    AttemptEvent,
    AttemptState,
    ForbiddenTransitionError,
    JobEvent,
    JobState,
    TargetEvent,
    TargetState,
)
from coordinator.errors import UsageError
from tests.edges.store.store_bed import AMD64, ARM64, CHILD, OURS, TO_PUSHED, assigned, create, end, told


def test_a_new_run_has_a_pending_job_per_platform(store):
    """A run begins with one pending job for each platform, in the order asked, and knows what it was made from."""
    run = create(store)

    assert [(job.platform, job.state, job.build_id[0]) for job in run.jobs] == [
        (AMD64, JobState.PENDING, "b"),
        (ARM64, JobState.PENDING, "a"),
    ]
    assert run.request == {"tags": ["nas/app:1"]}
    assert run.inputs == {"bases": {"alpine": "sha256:b"}}
    assert run.inventory == "/farm.yaml"
    assert (run.created_at, run.finished_at, run.exit_code, run.cancel_asked) == (1000.0, None, None, False)
    assert run == store.run("7f3a")


def test_another_coordinator_sees_what_was_committed(shared):
    """What a store returned from is there for the next coordinator."""
    one, other = shared.open(), shared.open()
    job = create(one).jobs[0]
    assigned(one, job.id, AttemptEvent.SEND)

    assert other.run("7f3a") == one.run("7f3a")
    assert [(each.host, each.mode, each.state, each.number) for each in other.run("7f3a").jobs[0].attempts] == [
        ("pi5", Mode.NATIVE, AttemptState.SENDING, 1)
    ]


def test_a_step_and_its_event_are_committed_together(bed, store):
    """Every change tells what it was and when, in the order of the changes."""
    job = create(store).jobs[0]
    bed.now = 1001.0
    attempt = assigned(store, job.id)
    store.move_attempt(attempt.id, AttemptEvent.LOSE, code="disk", message="no room")
    store.move_job(job.id, JobEvent.RETRY)

    assert told(store) == [
        "run created",
        "job linux/amd64 pending assign active",
        "attempt linux/amd64 1 assigned lose lost",
        "job linux/amd64 active retry pending",
    ]
    assert [event.at for event in store.events("7f3a")] == [1000.0, 1001.0, 1001.0, 1001.0]
    assert store.events("7f3a")[2].data == {"code": "disk", "message": "no room"}


def test_a_forbidden_step_changes_nothing(store):
    """The tables decide: a step they do not have leaves the stored state as it was, and tells nothing."""
    run = create(store)
    attempt = assigned(store, run.jobs[0].id)
    before, events = store.run("7f3a"), store.events("7f3a")

    for refused in (
        lambda: store.move_attempt(attempt.id, AttemptEvent.PUSHED),
        lambda: store.move_job(run.jobs[1].id, JobEvent.VERIFY),
        lambda: store.move_target("7f3a", TargetEvent.PUBLISH),
        lambda: store.verify_job(run.jobs[0].id, CHILD, winner=attempt.id),
        lambda: store.verify_job(run.jobs[1].id, CHILD, winner=attempt.id),
    ):
        with pytest.raises(ForbiddenTransitionError):
            refused()

    assert store.run("7f3a") == before
    assert store.events("7f3a") == events


@pytest.mark.parametrize("end", [AttemptEvent.FAIL, AttemptEvent.LOSE, AttemptEvent.CANCEL])
@pytest.mark.parametrize("late", AttemptEvent)
def test_what_is_reported_of_an_ended_attempt_is_dropped(store, end, late):
    """A host that comes back cannot move an attempt that was given up: it stays as it ended, and the event says so."""
    job = create(store).jobs[0]
    attempt = assigned(store, job.id, AttemptEvent.SEND, end)
    before = store.run("7f3a")

    state = store.move_attempt(attempt.id, late, code="late", digest="sha256:late")

    assert store.run("7f3a") == before
    assert state is before.jobs[0].attempts[0].state
    assert told(store)[-1] == f"attempt linux/amd64 1 {state} dropped {late}"


def test_the_child_of_a_job_is_its_winners(store):
    """The first verdict stands; the winner cannot be lost any more, whatever is reported of it."""
    job = create(store).jobs[0]
    attempt = assigned(store, job.id, *TO_PUSHED)

    assert store.verify_job(job.id, CHILD, winner=attempt.id)
    before = store.run("7f3a")
    assert not store.verify_job(job.id, {"digest": "sha256:d"}, winner=attempt.id)
    assert not store.verify_job(job.id, {"digest": "sha256:d"}, winner=None)
    assert store.move_attempt(attempt.id, AttemptEvent.LOSE) is AttemptState.PUSHED
    assert store.move_job(job.id, JobEvent.CANCEL) is JobState.VERIFIED

    assert store.run("7f3a") == before
    assert (before.jobs[0].child, before.jobs[0].reused) == (CHILD, False)
    assert [what.split(" ", 3)[-1] for what in told(store)[-4:]] == [
        "dropped verify",
        "dropped reuse",
        "pushed dropped lose",
        "dropped cancel",
    ]


def test_a_lost_attempt_does_not_win(store):
    """A report of an attempt that was given up is dropped, and the attempt that took its place goes on."""
    job = create(store).jobs[0]
    lost = assigned(store, job.id, *TO_PUSHED, AttemptEvent.LOSE)
    store.move_job(job.id, JobEvent.RETRY)
    second = assigned(store, job.id, host="pi4")

    assert not store.verify_job(job.id, CHILD, winner=lost.id)

    now = store.run("7f3a").jobs[0]
    assert (now.state, now.child, now.live) == (JobState.ACTIVE, None, (second,))
    assert told(store)[-1] == "job linux/amd64 active dropped verify"
    assert store.events("7f3a")[-1].data == {"attempt": "1"}


def test_a_reused_job_needs_no_attempt(store):
    """What the registry has already is the job's child, and the job says that it was reused."""
    job = create(store).jobs[0]

    assert store.verify_job(job.id, CHILD, winner=None)

    now = store.run("7f3a").jobs[0]
    assert (now.state, now.reused, now.child, now.attempts) == (JobState.VERIFIED, True, CHILD, ())


def test_a_digest_stays_once_it_is_known(store):
    """Later steps of the target, and of an attempt, keep the digest an earlier one wrote."""
    job = create(store).jobs[0]
    attempt = assigned(store, job.id, *TO_PUSHED[:-1])
    store.move_attempt(attempt.id, AttemptEvent.PUSHED, digest="sha256:p")
    store.move_attempt(attempt.id, AttemptEvent.LOSE)
    store.move_target("7f3a", TargetEvent.COMPLETE)
    store.move_target("7f3a", TargetEvent.INDEX, digest="sha256:i")
    store.move_target("7f3a", TargetEvent.TAG)
    store.move_target("7f3a", TargetEvent.PUBLISH)

    run = store.run("7f3a")
    assert (run.target_state, run.index_digest) == (TargetState.PUBLISHED, "sha256:i")
    assert run.jobs[0].attempts[0].digest == "sha256:p"


def test_a_tag_remembers_what_it_was_before_the_run(store):
    """A resumed run does not take its own new tag for the old one."""
    create(store)
    store.expect_tag("7f3a", "nas/app:1", "sha256:old")
    store.expect_tag("7f3a", "nas/app:1", "sha256:new")
    store.tag_moved("7f3a", "nas/app:1")

    (tag,) = store.run("7f3a").tags

    assert (tag.previous, tag.moved) == ("sha256:old", True)


def test_a_run_ends_once_with_its_exit_code(bed, store):
    """Then it is over for whoever asks."""
    create(store)
    assert not store.has_ended("7f3a")
    bed.now = 1060.0

    end(store)

    run = store.run("7f3a")
    assert (run.finished_at, run.exit_code, run.lease) == (1060.0, 4, None)
    assert store.has_ended("7f3a")
    assert not store.has_ended("nope")
    assert told(store)[-1] == "run ended 4"


def test_runs_are_listed_newest_first(bed, store):
    """In the order they were begun, also where the clock was set back in between."""
    for number in range(4):
        bed.now -= 100.0
        create(store, f"run{number}")

    assert [run.id for run in store.runs()] == ["run3", "run2", "run1", "run0"]
    assert [run.id for run in store.runs(2)] == ["run3", "run2"]


def test_the_latest_runs_that_are_wanted_are_found(store):
    """Whoever chooses is shown all but jobs and tag moves; what is found is whole."""
    for number in range(4):
        create(store, f"run{number}", f"app:{number % 2}")
    end(store, "run0")

    assert store.find_runs(lambda run: run.asked_tags == ("app:0",), 9) == (store.run("run2"), store.run("run0"))
    assert store.find_runs(lambda run: run.lease is None, 9) == (store.run("run0"),)
    assert store.find_runs(lambda _: True, 2) == store.runs(2)


def test_the_newest_unfinished_run_is_found(store):
    """Whether somebody drives it or not; a finished one is passed over."""
    assert store.newest_unfinished() is None
    for name in ("one", "two", "three"):
        create(store, name)
    end(store, "three")

    assert store.newest_unfinished() == store.run("two")
    store.release("two")
    assert store.newest_unfinished() == store.run("two")


def test_the_previous_run_is_the_one_before_of_the_same_target(store):
    """By whatever version it is tagged. Other targets in between do not count, nor does what came later."""
    for name, tag in (("one", "nas:5000/app:1"), ("two", "nas:5000/other:1"), ("three", "nas:5000/app:2")):
        create(store, name, tag)
    for name, more in (("stage", {"stage": "test"}), ("file", {"dockerfile": "/src/Dockerfile.dev"})):
        request = {"tags": ["nas:5000/app:2"], **more}
        store.create_run(name, request, {}, driver=OURS, inputs={}, inventory="")
    create(store, "four", "nas:5000/app:3")
    untagged = store.create_run("five", {}, {}, driver=OURS, inputs={}, inventory="")

    assert store.previous(store.run("three")) == store.run("one")
    assert store.previous(store.run("one")) is None
    assert store.previous(store.run("two")) is None
    assert store.previous(store.run("stage")) is None
    assert store.previous(store.run("file")) is None
    assert store.previous(store.run("four")) == store.run("three")
    assert store.previous(untagged) is None


def test_a_run_is_found_by_the_beginning_of_its_id(store):
    """A prefix is enough where only one run has it; two are an error that says so, none as well."""
    create(store, "7f3a")
    create(store, "7f00")

    assert store.find_run("7f3").id == "7f3a"
    with pytest.raises(UsageError, match=r"more than one run begins with '7f': 7f00, 7f3a$"):
        store.find_run("7f")
    for name in ("7f01", "7f02", "7f03", "7f04"):
        create(store, name)
    with pytest.raises(UsageError, match=r"'7f': 7f04, 7f03, 7f02, 7f01, 7f00, …$"):
        store.find_run("7f")
    for unknown in ("zz%", "", "7f3abc"):
        with pytest.raises(UsageError, match=f"no run '{unknown}'"):
            store.find_run(unknown)


@pytest.mark.parametrize("ask", ["run", "events", "cancel_asked", "ask_cancel"])
def test_an_unknown_run_is_said_so(store, ask):
    """Whatever is asked of it."""
    with pytest.raises(UsageError, match="no run 'nope'") as caught:
        getattr(store, ask)("nope")
    assert caught.value.hint == "list them with: archloom runs"


def test_finished_runs_are_pruned_with_all_that_is_theirs(store):
    """One that is not finished stays, whoever asks; what was deleted is told."""
    for name in ("old", "open"):
        job = create(store, name).jobs[0]
        assigned(store, job.id)
        store.expect_tag(name, "nas/app:1", "")
    end(store, "old")

    assert store.prune(["old", "open", "nope"]) == ("old",)

    assert [run.id for run in store.runs()] == ["open"]
    assert store.run("open").jobs[0].attempts
    with pytest.raises(UsageError):
        store.run("old")
    with pytest.raises(UsageError):
        store.events("old")
    create(store, "old")
    assert (store.run("old").tags, told(store, "old")) == ((), ["run created"])


def test_what_is_remembered_of_a_host_is_by_name_and_address(store):
    """Facts outlive the silence that follows them, and an answer ends the silence."""
    seen = LastProbe(observation={"cores": 4}, seen_at=5.0, round_trip=0.5, machine="m b")
    store.probes.record("pi4", "ssh://pi4", seen)
    store.probes.record_silence("pi4", "ssh://pi4", "no SSH answer", "ping it")
    store.probes.record_silence("pi4", "ssh://elsewhere", "no route", "")

    silent = store.probes.last()
    store.probes.record("pi4", "ssh://pi4", seen)

    assert silent["pi4", "ssh://pi4"] == replace(seen, silent_at=1000.0, message="no SSH answer", hint="ping it")
    assert silent["pi4", "ssh://elsewhere"].observation is None
    assert store.probes.last()["pi4", "ssh://pi4"] == seen


def test_hosts_that_nobody_has_asked_for_long_are_forgotten(bed, store):
    """Entries come and go; what was known of them does not stay for ever."""
    store.probes.record_silence("old", "ssh://old", "off", "")
    bed.now += 91 * 86400
    store.probes.record("pi4", "ssh://pi4", LastProbe(observation={}, seen_at=bed.now))

    assert list(store.probes.last()) == [("pi4", "ssh://pi4")]


def test_a_verified_child_is_remembered_for_a_year_since_its_last_use(bed, store):
    """By repository, build id, platform and mode; a later one of the same mode takes its place."""
    place = ("nas/app", "b" * 64, AMD64)
    native, emulated = KnownChild(Mode.NATIVE, "sha256:1", "archloom-1"), KnownChild(Mode.EMULATED, "sha256:2")
    for child in (replace(native, digest="sha256:0"), native, emulated):
        store.children.record(*place, child)

    assert sorted(store.children.known(*place), key=lambda child: child.mode.rank) == [native, emulated]
    for other in (("nas/b", place[1], AMD64), (place[0], "c" * 64, AMD64), (*place[:2], ARM64)):
        assert store.children.known(*other) == ()

    bed.now += 300 * 86400.0
    store.children.record(*place, native)
    bed.now += 70 * 86400.0
    store.children.record("nas/b", "c" * 64, AMD64, native)
    assert store.children.known(*place) == (native,)


def test_an_image_on_a_host_is_needed_obsolete_or_left_to_its_age(bed, store):
    """An image that a driven run needs stays, one that an ended run left is kept for a time, and no other."""
    job = create(store).jobs[0]
    attempt = assigned(store, job.id, *TO_PUSHED[:3])
    assert store.is_obsolete(attempt.agent_job) is False

    bed.alive = False
    assert store.is_obsolete(attempt.agent_job) is None

    store.move_job(job.id, JobEvent.LOSE)
    end(store)
    assert store.is_obsolete(attempt.agent_job) is None
    assert store.is_obsolete("somebody-elses-1") is None

    later = create(store, "91c4")
    store.adopt(later.jobs[0].id, attempt)
    bed.alive = True
    assert store.is_obsolete(attempt.agent_job) is False

    store.move_attempt(store.run("91c4").jobs[0].attempts[0].id, AttemptEvent.LOSE)
    assert store.is_obsolete(attempt.agent_job) is True
