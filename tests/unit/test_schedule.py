"""Waiting jobs get the best host that has room."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.platforms import Mode, parse
from coordinator.domain.run import Attempt, Job, Run
from coordinator.domain.schedule import Assignment, Candidate, assign, hopeless
from coordinator.domain.states import AttemptState, JobState, TargetState

PLATFORMS = [parse(text) for text in ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6")]
HOSTS = ["pi5", "pi4", "beast"]


def run_of(*jobs: Job) -> Run:
    return Run(id="r", request={}, target_state=TargetState.OPEN, index_digest="", jobs=jobs)


def job(
    number: int, *attempts: tuple[str, AttemptState], state: JobState = JobState.PENDING, code: str = "connection"
) -> Job:
    made = tuple(
        Attempt(id=number * 10 + n, job_id=number, number=n + 1, host=host, mode=Mode.NATIVE, state=at, code=code)
        for n, (host, at) in enumerate(attempts)
    )
    return Job(id=number, platform=PLATFORMS[number], state=state, build_id="x", attempts=made)


def test_a_job_waits_for_a_native_host_rather_than_be_emulated():
    """The better mode is worth waiting for, even when the emulator is idle."""
    able = {PLATFORMS[1]: [Candidate("pi5", Mode.NATIVE), Candidate("beast", Mode.EMULATED)]}
    busy = job(0, ("pi5", AttemptState.BUILDING), state=JobState.ACTIVE)

    assert assign(run_of(busy, job(1)), able, {"pi5": 1, "beast": 4}) == ()


def test_a_built_image_holds_no_slot():
    """A host takes the next job while the last one's image is still being pushed."""
    able = {PLATFORMS[1]: [Candidate("pi5", Mode.NATIVE)]}
    pushing = job(0, ("pi5", AttemptState.PUSHING), state=JobState.ACTIVE)

    assert assign(run_of(pushing, job(1)), able, {"pi5": 1}) == (Assignment(1, Candidate("pi5", Mode.NATIVE)),)


def test_a_lost_job_goes_elsewhere_first_and_back_only_when_it_must():
    """A host that lost the job is the last choice, but a choice."""
    lost = job(1, ("pi5", AttemptState.LOST))
    two = {PLATFORMS[1]: [Candidate("pi5", Mode.NATIVE), Candidate("beast", Mode.EMULATED)]}
    one = {PLATFORMS[1]: [Candidate("pi5", Mode.NATIVE)]}

    assert assign(run_of(lost), two, {"pi5": 1, "beast": 1})[0].candidate.host == "beast"
    assert assign(run_of(lost), one, {"pi5": 1})[0].candidate.host == "pi5"


def test_a_full_disk_sends_the_job_elsewhere_and_never_back():
    """What the same host would lose again goes to another host, and ends where there is no other."""
    full = job(1, ("pi5", AttemptState.LOST), code="disk")
    two = {PLATFORMS[1]: [Candidate("pi5", Mode.NATIVE), Candidate("beast", Mode.EMULATED)]}
    one = {PLATFORMS[1]: [Candidate("pi5", Mode.NATIVE)]}

    assert assign(run_of(full), two, {"pi5": 1, "beast": 1})[0].candidate.host == "beast"
    assert assign(run_of(full), one, {"pi5": 1}) == ()
    assert hopeless(run_of(full), one) == (full,)


def test_two_jobs_of_one_platform_set_use_both_boards():
    """Equal boards share the work: neither is left idle."""
    able = {p: [Candidate("pi5", Mode.NATIVE), Candidate("pi4", Mode.NATIVE)] for p in PLATFORMS[:2]}

    chosen = assign(run_of(job(0), job(1)), able, {"pi5": 2, "pi4": 2})

    assert {one.candidate.host for one in chosen} == {"pi5", "pi4"}


def test_a_job_nobody_can_take_is_hopeless():
    """A platform without a candidate is said at once instead of waited for."""
    assert hopeless(run_of(job(0), job(1)), {PLATFORMS[0]: [Candidate("pi5", Mode.NATIVE)]}) == (job(1),)


@given(st.data())
def test_no_host_is_given_more_than_its_slots(data):
    """Whatever the inventory, a host never has more of our jobs than slots, and only jobs it can do."""
    candidate = st.builds(Candidate, st.sampled_from(HOSTS), st.sampled_from(list(Mode)))
    able = {p: data.draw(st.lists(candidate, max_size=3)) for p in PLATFORMS}
    slots = {host: data.draw(st.integers(0, 2)) for host in HOSTS}
    run = run_of(*(job(n) for n in range(4)))

    chosen = assign(run, able, slots)

    assert all(one.candidate in able[PLATFORMS[one.job_id]] for one in chosen)
    assert all(count <= slots[host] for host, count in Counter(one.candidate.host for one in chosen).items())
    assert chosen == assign(run, able, slots)
