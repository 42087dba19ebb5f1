"""Wherever coordinators die, a run ends as it would have; whatever else happens, it ends, and the tag never lies."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.domain.image.index import Child, assemble
from coordinator.domain.image.platforms import parse
from coordinator.domain.run import states
from coordinator.domain.run.model import Run
from coordinator.domain.run.retry import MAX_ATTEMPTS
from coordinator.domain.run.states import AttemptEvent, JobState, TargetState
from tests.edges.run.simulated_shell import play
from tests.edges.run.simulated_world import NEWER, OLD, OTHERS, Scenario, World, descriptor, image_of

PLATFORMS = [parse(text) for text in ("linux/amd64", "linux/arm64", "linux/arm/v7")]
HOSTS = ("beast", "pi4", "pi5")
TICKS = st.integers(1, 150)


@st.composite
def scenarios(draw: st.DrawFn, *, calm: bool) -> Scenario:
    """`calm`: nothing but deaths."""
    hosts = draw(st.dictionaries(st.sampled_from(HOSTS), st.integers(1, 2), min_size=1))
    platforms = draw(st.lists(st.sampled_from(PLATFORMS), min_size=1, unique=True))
    host = st.sampled_from(sorted(hosts))
    deaths = tuple(draw(st.lists(st.integers(1, 40), max_size=6)))
    pauses = tuple(draw(st.lists(st.integers(0, 20), min_size=len(deaths) + 1, max_size=len(deaths) + 1)))
    scenario = Scenario(
        hosts=hosts,
        builds={one: (draw(st.integers(0, 30)), draw(st.sampled_from([True, True, True, False]))) for one in platforms},
        tags=tuple(draw(st.lists(st.sampled_from(["1", "1.0", "latest"]), min_size=1, unique=True))),
        fail_fast=draw(st.booleans()),
        deaths=deaths,
        pauses=pauses,
        frozen=draw(st.booleans()),
        late=tuple(draw(st.lists(st.tuples(TICKS, st.sampled_from(AttemptEvent)), max_size=3).map(sorted))),
    )
    if calm:
        return scenario
    silences = draw(st.lists(st.tuples(host, TICKS, st.integers(1, 60)), max_size=3))
    return replace(
        scenario,
        silent=tuple((name, at, at + ticks) for name, at, ticks in silences),
        wiped=tuple(draw(st.lists(st.tuples(host, TICKS), max_size=3))),
        bad_pushes=draw(st.frozensets(st.integers(1, 6))),
        registry_gone_at=draw(st.frozensets(st.integers(1, 6), max_size=1)),
        others_move_a_tag_at=draw(st.none() | TICKS),
        cancel_at=draw(st.none() | TICKS),
    )


def played(scenario: Scenario) -> tuple[World, Run]:
    """The world after the run, and the run; what must hold on the way is checked on the way."""
    # In memory where there is such a place: thousands of runs need not reach a disk.
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        world = World(scenario, Path(folder, "archloom.db"))
        return world, asyncio.run(play(world))


def check(world: World, run: Run) -> None:
    assert world.wrong == []
    assert run.finished_at is not None
    assert run.lease is None
    assert states.ended(run.target_state)
    assert all(states.ended(job.state) for job in run.jobs)
    assert max(world.started.values(), default=0) <= 1, "a job was started twice on its host"
    for job in run.jobs:
        winners = [one for one in job.attempts if one.won]
        assert len(winners) == (job.state is JobState.VERIFIED)
        assert [one for one in job.live if one != job.kept] == []
        assert job.kept is None or world.holds(job.kept), "kept, and its host does not have it"
        for attempt in job.losses:
            harmed = world.harmed[attempt.host] or attempt.code in ("push", "build")
            assert harmed, "built again though its host lost nothing"
    check_tags(world, run)


def check_tags(world: World, run: Run) -> None:
    assert {world.tags[tag] for tag in world.scenario.tags} == {NEWER.digest}, "moved by one that woke up too late"
    tags = {world.tags_at_the_end[tag] for tag in world.scenario.tags}
    if run.target_state is TargetState.PUBLISHED:
        children = [Child(platform=one, descriptor=descriptor(one, image_of(one))) for one in world.scenario.builds]
        assert run.exit_code == 0
        assert run.index_digest == assemble(children).digest
        assert tags - {OTHERS.digest} <= {run.index_digest}
    else:
        assert run.exit_code != 0
        assert tags - {OTHERS.digest} <= {OLD.digest, run.index_digest}
    if world.scenario.others_move_a_tag_at is None:
        assert OTHERS.digest not in tags


def told(run: Run) -> object:
    """What a run came to, without when."""
    jobs = [(job.platform, job.state, [one.state for one in job.attempts]) for job in run.jobs]
    return run.target_state, run.index_digest, run.exit_code, jobs


@given(scenarios(calm=True))
@settings(max_examples=80)
def test_a_run_whose_coordinators_die_ends_as_it_would_have(scenario: Scenario):
    """The same children, the same index, the same exit code; nothing is built twice."""
    ends_as_it_would_have(scenario)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@given(scenarios(calm=True))
@settings(max_examples=1500)
def test_wherever_they_die_thousands_of_times(scenario: Scenario):
    """The same, at thousands of points."""
    ends_as_it_would_have(scenario)


def ends_as_it_would_have(scenario: Scenario) -> None:
    world, run = played(scenario)
    check(world, run)
    assert all(len(job.attempts) <= 1 for job in run.jobs)
    # Who is stopped by --fail-fast depends on who was quicker.
    if not scenario.fail_fast:
        ends = [JobState.VERIFIED if good else JobState.FAILED for _, good in scenario.builds.values()]
        assert [job.state for job in run.jobs] == ends
        assert told(run) == told(played(replace(scenario, deaths=(), frozen=False))[1])


@given(scenarios(calm=False))
@settings(max_examples=80)
def test_whatever_happens_a_run_ends_and_the_tag_does_not_lie(scenario: Scenario):
    """Lost boards, lost pushes, late reports, cancelling, a tag moved by others, and coordinators that die or sleep."""
    check(*played(scenario))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@given(scenarios(calm=False))
@settings(max_examples=2500)
def test_whatever_happens_thousands_of_times(scenario: Scenario):
    """The same, in thousands of worlds."""
    check(*played(scenario))


@pytest.mark.parametrize("steps", range(1, 85))
@pytest.mark.parametrize("frozen", [False, True])
def test_a_death_at_every_step_of_one_run(steps, frozen):
    """Two platforms, two tags: at each step once, and again right after the next one has taken over."""
    scenario = Scenario(
        builds=dict.fromkeys(PLATFORMS[:2], (3, True)),
        hosts={"beast": 2},
        tags=("1", "latest"),
        deaths=(steps, 1, 2),
        pauses=(0, 0, 0, 0),
        frozen=frozen,
    )

    ends_as_it_would_have(scenario)


@pytest.mark.parametrize("steps", range(1, 100, 2))
def test_a_death_at_every_step_of_a_second_attempt(steps):
    """A host falls silent while it builds, another goes on for it, and the coordinator dies: one result, no third."""
    scenario = Scenario(
        builds={PLATFORMS[0]: (40, True), PLATFORMS[1]: (10, True)},
        hosts={"beast": 2, "pi5": 2},
        silent=(("beast", 14, 70), ("pi5", 90, 100)),
        deaths=(steps, 3),
        pauses=(0, 0, 0),
    )

    world, run = played(scenario)

    check(world, run)
    assert run.target_state is TargetState.PUBLISHED
    assert all(len(job.attempts) <= MAX_ATTEMPTS for job in run.jobs)
