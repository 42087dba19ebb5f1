"""Waiting jobs get the best host that has room."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.image.platforms import Mode, parse
from coordinator.domain.placement.schedule import (
    Assignment,
    Candidate,
    assign,
    best_hosts,
    demand,
    free_elsewhere,
    hedges,
    is_tried_again,
    spare,
    turns,
    unassignable,
)
from coordinator.domain.run.model import Attempt, Job, Run
from coordinator.domain.run.states import AttemptState, JobState, TargetState

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
    able = {PLATFORMS[2]: [Candidate("pi5", Mode.NATIVE), Candidate("beast", Mode.EMULATED)]}
    busy = [job(n, ("pi5", AttemptState.BUILDING), state=JobState.ACTIVE) for n in range(2)]

    assert assign(run_of(*busy, job(2)), able, {"pi5": 1, "beast": 4}) == ()


def test_the_next_job_of_a_busy_host_is_sent_ahead_where_no_other_host_can_take_it():
    one, two = [Candidate("pi5", Mode.NATIVE)], [Candidate("pi5", Mode.NATIVE), Candidate("pi4", Mode.NATIVE)]
    busy = [job(n, (name, AttemptState.BUILDING), state=JobState.ACTIVE) for n, name in enumerate(("pi5", "pi4"))]
    run = run_of(*busy, job(2), job(3))

    assert assign(run, {PLATFORMS[2]: one, PLATFORMS[3]: one}, {"pi5": 1, "pi4": 1}) == (Assignment(2, one[0]),)
    assert assign(run, {PLATFORMS[2]: two, PLATFORMS[3]: two}, {"pi5": 1, "pi4": 1}) == ()


def test_the_jobs_of_a_host_build_in_turn():
    """By attempt, but first come those that build already; and a host whose slots are unknown makes none wait."""
    sent = [job(n, ("pi5", AttemptState.BUILDING), state=JobState.ACTIVE) for n in range(3)]
    run = run_of(*sent)

    assert turns(run, {"pi5": 1}, ()) == {10: (sent[0],), 20: (sent[0],)}
    assert turns(run, {"pi5": 1}, (20,)) == {0: (sent[2],), 10: (sent[2],)}
    assert turns(run, {"pi5": 3}, ()) == turns(run, {}, ()) == {}


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
    assert unassignable(run_of(full), one) == (full,)


def test_two_jobs_of_one_platform_set_use_both_boards():
    """Equal boards share the work: neither is left idle."""
    able = {p: [Candidate("pi5", Mode.NATIVE), Candidate("pi4", Mode.NATIVE)] for p in PLATFORMS[:2]}

    chosen = assign(run_of(job(0), job(1)), able, {"pi5": 2, "pi4": 2})

    assert {one.candidate.host for one in chosen} == {"pi5", "pi4"}


ARMS = [parse(text) for text in ("linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5")]


@given(st.permutations(ARMS), st.integers(1, 3), st.integers(1, 3))
def test_two_boards_share_what_both_can_run(platforms, one, two):
    """Four jobs that any arm64 board takes: as many start as there are slots, and neither board waits for the other."""
    jobs = [Job(id=n, platform=p, state=JobState.PENDING, build_id="x") for n, p in enumerate(platforms)]
    modes = {p: Mode.NATIVE if p is ARMS[0] else Mode.COMPAT for p in ARMS}
    able = {p: [Candidate("pi5", mode), Candidate("pi4", mode)] for p, mode in modes.items()}

    chosen = assign(run_of(*jobs), able, {"pi5": one, "pi4": two})

    load = Counter(each.candidate.host for each in chosen)
    assert len(chosen) == min(4, one + two)
    assert load["pi5"] >= min(one, 4 - two, 2)
    assert load["pi4"] >= min(two, 4 - one, 2)
    assert max(load.values()) - min(load.values()) <= max(1, abs(one - two))


def test_the_board_that_only_one_job_needs_is_left_to_it():
    """v6 has two boards, arm64 two, v7 one: with three slots all three run at once."""
    able = {
        PLATFORMS[1]: [Candidate("pi4", Mode.NATIVE), Candidate("pi5", Mode.NATIVE)],
        PLATFORMS[2]: [Candidate("pi3", Mode.NATIVE), Candidate("pi4", Mode.COMPAT)],
        PLATFORMS[3]: [Candidate("pi4", Mode.COMPAT), Candidate("pi3", Mode.COMPAT)],
    }

    chosen = assign(run_of(job(1), job(2), job(3)), able, {"pi3": 1, "pi4": 1, "pi5": 1})

    assert {one.job_id: one.candidate.host for one in chosen} == {1: "pi5", 2: "pi3", 3: "pi4"}


def test_a_job_nobody_can_take_is_hopeless():
    """A platform without a candidate is said at once instead of waited for."""
    assert unassignable(run_of(job(0), job(1)), {PLATFORMS[0]: [Candidate("pi5", Mode.NATIVE)]}) == (job(1),)


@given(st.data())
def test_no_host_is_given_more_than_its_slots_and_one(data):
    """Whatever the inventory, a host has at most one of our jobs more than slots, and only jobs it can do."""
    candidate = st.builds(Candidate, st.sampled_from(HOSTS), st.sampled_from(list(Mode)))
    able = {p: data.draw(st.lists(candidate, max_size=3)) for p in PLATFORMS}
    slots = {host: data.draw(st.integers(0, 2)) for host in HOSTS}
    run = run_of(*(job(n) for n in range(4)))

    chosen = assign(run, able, slots)

    assert all(one.candidate in able[PLATFORMS[one.job_id]] for one in chosen)
    assert all(
        count <= slots[host] + (slots[host] > 0)
        for host, count in Counter(one.candidate.host for one in chosen).items()
    )
    assert chosen == assign(run, able, slots)


def test_only_pending_jobs_get_a_host():
    """Whatever else the run has, in the order of its jobs."""
    states = [JobState.VERIFIED, JobState.LOST, JobState.SKIPPED, JobState.PENDING]
    able = {platform: [Candidate("pi5", Mode.NATIVE)] for platform in PLATFORMS}

    chosen = assign(run_of(*(job(n, state=state) for n, state in enumerate(states))), able, {"pi5": 4})

    assert [one.job_id for one in chosen] == [3]


def test_a_job_with_two_hosts_waits_for_those_with_one():
    able = {
        PLATFORMS[0]: [Candidate("pi4", Mode.NATIVE), Candidate("pi5", Mode.NATIVE)],
        PLATFORMS[1]: [Candidate("pi4", Mode.NATIVE)],
        PLATFORMS[2]: [Candidate("pi5", Mode.NATIVE)],
    }

    chosen = assign(run_of(job(0), job(1), job(2)), able, {"pi4": 1, "pi5": 1})

    assert {one.job_id: one.candidate.host for one in chosen} == {1: "pi4", 2: "pi5"}


def test_a_host_without_slots_gets_nothing():
    able = {PLATFORMS[0]: [Candidate("pi4", Mode.NATIVE), Candidate("pi5", Mode.NATIVE)]}

    assert assign(run_of(job(0)), able, {"pi4": 0}) == ()


def test_the_least_busy_host_is_the_one_with_the_largest_share_free():
    """One job of four slots is less than one of two."""
    able = {PLATFORMS[2]: [Candidate("pi4", Mode.NATIVE), Candidate("pi5", Mode.NATIVE)]}
    busy = [job(n, (name, AttemptState.BUILDING), state=JobState.ACTIVE) for n, name in enumerate(("pi4", "pi5"))]

    (chosen,) = assign(run_of(*busy, job(2)), able, {"pi4": 2, "pi5": 4})

    assert chosen.candidate.host == "pi5"


def test_a_host_is_in_demand_where_it_is_of_the_best_mode():
    emulated, native = Candidate("beast", Mode.EMULATED), Candidate("pi5", Mode.NATIVE)

    assert best_hosts([emulated, native]) == ["pi5"]
    assert best_hosts([emulated]) == ["beast"]
    assert best_hosts([]) == []
    assert demand([[native, emulated], [native], [emulated], []]) == {"pi5": 2, "beast": 1}


def natives(*hosts: str) -> list[Candidate]:
    return [Candidate(host, Mode.NATIVE) for host in hosts]


def test_a_host_that_is_away_gets_no_job():
    """The job waits for it where there is no other of its mode, and is not lost before its patience is over."""
    able = {PLATFORMS[1]: [*natives("pi5"), Candidate("beast", Mode.EMULATED)], PLATFORMS[2]: natives("pi5", "pi4")}
    run = run_of(job(1), job(2))
    slots = {"pi5": 1, "pi4": 1, "beast": 1}

    assert assign(run, able, slots, away={"pi5"}) == (Assignment(2, Candidate("pi4", Mode.NATIVE)),)
    assert unassignable(run, able) == ()


@given(st.data())
def test_a_second_attempt_takes_nothing_from_anybody(data):
    """It is on another host of the same mode, for a job with one attempt on a host that is away, in a slot to spare."""
    modes = st.sampled_from([Mode.NATIVE, Mode.EMULATED])
    live = [AttemptState.SENDING, AttemptState.BUILDING, AttemptState.BUILT, AttemptState.PUSHING, AttemptState.PUSHED]
    jobs = []
    for number in range(4):
        hosts = data.draw(st.lists(st.sampled_from(HOSTS), max_size=2, unique=True))
        attempts = [(host, data.draw(st.sampled_from([*live, AttemptState.LOST]))) for host in hosts]
        alive = any(state is not AttemptState.LOST for _, state in attempts)
        jobs.append(job(number, *attempts, state=JobState.ACTIVE if alive else JobState.PENDING))
    run = run_of(*jobs)
    able = {
        platform: [Candidate(host, data.draw(modes)) for host in data.draw(st.permutations(HOSTS))]
        for platform in PLATFORMS
    }
    slots = {host: data.draw(st.integers(0, 2)) for host in HOSTS}
    away = data.draw(st.sets(st.sampled_from(HOSTS)))

    found = hedges(run, able, slots, away)

    taken = Counter(one.candidate.host for one in found)
    assert len({one.job_id for one in found}) == len(found)
    for one in found:
        hedged, host = run.job(one.job_id), one.candidate.host
        (first,) = hedged.live
        assert first.on_its_host
        assert first.host in away
        assert host not in {*away, *(attempt.host for attempt in hedged.attempts)}
        assert one.candidate.mode is first.mode
        assert not any(pending.host == host for waiting in unassigned(run, able) for pending in waiting)
        held = sum(attempt.host == host and attempt.is_unbuilt for other in run.jobs for attempt in other.live)
        assert held + taken[host] <= slots[host]


def unassigned(run: Run, able) -> list[list[Candidate]]:
    """The hosts of their best mode that pending jobs could take."""
    pending = [waiting for waiting in run.jobs if waiting.state is JobState.PENDING]
    found = []
    for waiting in pending:
        tried = {attempt.host for attempt in waiting.attempts}
        hosts = [one for one in able[waiting.platform] if one.host not in tried] or able[waiting.platform]
        found.append([one for one in hosts if one.mode is hosts[0].mode])
    return found


def test_a_job_of_a_dead_host_begins_on_another():
    """In every state until the image is pushed; with --fail-fast not once the run is stopped."""
    able = {PLATFORMS[1]: natives("pi5", "pi4")}
    for state in (AttemptState.ASSIGNED, AttemptState.BUILDING, AttemptState.BUILT, AttemptState.PUSHING):
        run = run_of(job(1, ("pi5", state), state=JobState.ACTIVE))
        assert hedges(run, able, {"pi4": 1}, {"pi5"}) == (Assignment(1, Candidate("pi4", Mode.NATIVE)),)
        assert hedges(run, able, {"pi4": 1}, ()) == ()
    stopped = replace(run_of(job(0, state=JobState.FAILED), *run.jobs), request={"fail_fast": True})
    assert hedges(stopped, able, {"pi4": 1}, {"pi5"}) == ()


def test_a_job_that_waits_for_its_turn_begins_on_a_host_that_joins():
    """And then it does not begin where it waited, unless the second host goes away."""
    able = {PLATFORMS[1]: natives("pi5", "pi4")}
    run = run_of(job(1, ("pi5", AttemptState.BUILDING), state=JobState.ACTIVE))
    assert hedges(run, able, {"pi4": 1}, (), waiting={10}) == (Assignment(1, Candidate("pi4", Mode.NATIVE)),)

    second = run_of(job(1, ("pi5", AttemptState.BUILDING), ("pi4", AttemptState.BUILDING), state=JobState.ACTIVE))
    assert spare(second, {11}, ()) == {10}
    # The slot that it does not need is the next job's.
    third = run_of(*second.jobs, job(2, ("pi5", AttemptState.BUILDING), state=JobState.ACTIVE))
    assert turns(third, {"pi5": 1}, {11}, {10}) == {}
    waiting = run_of(*second.jobs, job(2))
    assert assign(waiting, {PLATFORMS[2]: natives("pi5", "pi6")}, {"pi5": 1}, spare={10}) != ()
    assert spare(second, {11}, {"pi4"}) == spare(second, {10, 11}, ()) == spare(second, (), ()) == set()


def test_a_job_that_waits_for_a_slot_may_move_only_to_a_free_host_of_its_mode():
    able = {PLATFORMS[1]: [*natives("pi5", "pi4"), Candidate("beast", Mode.EMULATED)]}
    run = run_of(job(1, ("pi5", AttemptState.BUILDING), state=JobState.ACTIVE))
    waiting = run.jobs[0].attempts[0]

    assert free_elsewhere(run, waiting, able, {"pi4": 1}, ())
    assert not free_elsewhere(run, waiting, able, {"pi4": 1}, {"pi4"})
    assert not free_elsewhere(run, waiting, able, {"pi4": 0, "beast": 1}, ())


def test_trying_again_is_said_only_where_it_happens():
    """The job wants another attempt, and a host can take it."""
    able = {PLATFORMS[1]: natives("pi5", "pi4")}
    lost = run_of(job(1, ("pi5", AttemptState.LOST), state=JobState.ACTIVE, code="disk"))
    failed = run_of(job(1, ("pi5", AttemptState.FAILED), state=JobState.ACTIVE, code="build"))
    two = run_of(job(1, ("pi5", AttemptState.LOST), ("pi4", AttemptState.BUILDING), state=JobState.ACTIVE))

    assert is_tried_again(lost, 1, able)
    assert not is_tried_again(lost, 1, {PLATFORMS[1]: natives("pi5")})
    assert not is_tried_again(lost, 1, {})
    assert not is_tried_again(failed, 1, able)
    assert not is_tried_again(two, 1, able)
