"""Who is waited for: nobody without need, and everybody whose absence would make a build worse."""

from __future__ import annotations

import random
from dataclasses import replace
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.hosts.facts import Facts
from coordinator.domain.hosts.inventory import Kind
from coordinator.domain.image.platforms import Mode
from coordinator.domain.placement.eligibility import JobRequirements, Unreachable
from coordinator.domain.placement.plan import plan
from coordinator.domain.placement.probe_deadline import (
    ProbePriority,
    naming_kind,
    priorities_to_name,
    probe_deadline,
    probe_priorities,
)
from coordinator.domain.targets.host_selection import HostSelection
from coordinator.domain.targets.target import Emulate
from tests.unit.placement.farms import ARM64, ARMV7, PLATFORMS, WANTED, farms, found, host

AMD64 = PLATFORMS[0]
RANK = {mode: rank for rank, mode in enumerate(Mode)} | {None: len(Mode)}
ASKED = st.builds(HostSelection, emulate=st.sampled_from(Emulate))


def modes(wanted, hosts, seen, selection):
    """The mode each platform would be built in, None where nobody can."""
    made = plan(wanted, hosts, seen, emulate=selection.emulate)
    return [one.choices[0].mode if one.choices else None for one in made.placements]


def jobs(*platforms):
    return [JobRequirements(platform=platform) for platform in platforms]


@given(farms(), WANTED, ASKED, st.data())
def test_nothing_is_built_worse_for_want_of_patience(farm, platforms, selection, data):
    """Once no silent host is needed, those that answered build every platform as well as all would have.

    Whether a silent host is known from an earlier time, or not at all.
    """
    hosts, seen = farm
    wanted = jobs(*platforms)
    quick = data.draw(st.sets(st.sampled_from(sorted(seen)))) if seen else set()
    known = {name: one for name, one in seen.items() if isinstance(one, Facts) and data.draw(st.booleans())}
    answered = {name: seen[name] for name in quick}

    judged = probe_priorities(wanted, hosts, answered, known, selection, {})

    assert set(judged) == set(seen) - quick
    if max(judged.values(), default=ProbePriority.NONE) < ProbePriority.MODE:
        assert modes(wanted, hosts, answered, selection) == modes(wanted, hosts, seen, selection)


@given(farms(), WANTED, ASKED, st.data())
def test_a_sound_host_that_is_known_is_waited_for_only_when_it_helps(farm, platforms, selection, data):
    """`MODE` of a host that is as it was means that a platform is built in a better mode with it."""
    hosts, seen = farm
    wanted = jobs(*platforms)
    quick = data.draw(st.sets(st.sampled_from(sorted(seen)))) if seen else set()
    answered = {name: seen[name] for name in quick}
    known = {name: one for name, one in seen.items() if isinstance(one, Facts)}

    for name, need in probe_priorities(wanted, hosts, answered, known, selection, {}).items():
        facts = known.get(name)
        if need is ProbePriority.MODE and facts is not None and facts.blocking is None:
            before, after = modes(wanted, hosts, answered, selection), modes(wanted, hosts, seen, selection)
            better = any(RANK[now] < RANK[then] for now, then in zip(after, before, strict=True))
            assert better or facts.disk_free < facts.disk_total


@given(farms(), WANTED, ASKED)
def test_the_end_of_waiting_comes(farm, platforms, selection):
    """With every host heard nobody is needed, and each answer in turn leaves fewer to wait for."""
    hosts, seen = farm
    wanted, answered = jobs(*platforms), {}

    for name in random.sample(sorted(seen), len(seen)):
        assert name in probe_priorities(wanted, hosts, answered, {}, selection, {})
        answered[name] = seen[name]

    assert probe_priorities(wanted, hosts, answered, {}, selection, {}) == {}


def test_a_silent_board_is_needed_while_only_the_emulator_has_answered():
    """It may be the one that runs arm64 natively; once it is known to be a 32-bit Pi, it is not."""
    hosts = [host("pi"), host("beast", Kind.EMULATOR)]
    answered = {"beast": found("beast", "amd64-qemu-user-static")}

    unknown = probe_priorities(jobs(AMD64, ARM64), hosts, answered, {}, HostSelection(), {"beast": 4})
    other = probe_priorities(
        jobs(AMD64, ARM64), hosts, answered, {"pi": found("pi", "pi2")}, HostSelection(), {"beast": 4}
    )

    assert unknown == {"pi": ProbePriority.MODE}
    assert other == {"pi": ProbePriority.NONE}


def test_a_silent_host_is_the_last_hope_whatever_it_was():
    """QEMU may have been installed since: what is remembered makes nobody give up."""
    hosts = [host("pi"), host("beast", Kind.EMULATOR)]
    answered = {"pi": found("pi", "pi2")}

    judged = probe_priorities(
        jobs(ARM64), hosts, answered, {"beast": found("beast", "amd64-without-binfmt")}, HostSelection(), {}
    )

    assert judged == {"beast": ProbePriority.ONLY}


def test_a_second_board_is_room_while_the_first_has_more_jobs_than_slots():
    """Two jobs and one slot: worth a little patience. One job: none."""
    hosts = [host("a"), host("b")]
    answered = {"a": found("a", "pi4")}

    two = probe_priorities(jobs(ARM64, ARMV7), hosts, answered, {"b": found("b", "pi4")}, HostSelection(), {"a": 1})
    wide = probe_priorities(jobs(ARM64, ARMV7), hosts, answered, {"b": found("b", "pi4")}, HostSelection(), {"a": 2})

    assert two == {"b": ProbePriority.QUEUED}
    assert wide == {"b": ProbePriority.SPARE}


def test_hosts_that_may_not_be_used_are_not_waited_for():
    """Neither those that --on leaves out, nor those that the inventory limits to other platforms."""
    hosts = [host("a"), host("b", platforms=(ARMV7,)), host("c")]

    assert probe_priorities(jobs(ARM64), hosts, {}, {}, HostSelection(on=("c",)), {}) == {
        "a": ProbePriority.NONE,
        "b": ProbePriority.NONE,
        "c": ProbePriority.ONLY,
    }
    assert (
        probe_priorities(jobs(ARM64), hosts, {}, {}, HostSelection(pinned={ARM64: "a"}), {})["a"] is ProbePriority.ONLY
    )


def test_without_platforms_every_board_that_may_add_one_is_needed():
    """Boards name the platforms; a board known to run what another has named adds none, and emulators never do."""
    hosts = [host("a"), host("b"), host("c"), host("beast", Kind.EMULATOR)]
    known = {"b": found("b", "pi4"), "c": None}

    assert priorities_to_name(hosts, {"a": found("a", "pi5-16k")}, known) == {
        "b": ProbePriority.NONE,
        "c": ProbePriority.MODE,
        "beast": ProbePriority.NONE,
    }
    assert priorities_to_name(hosts, {"a": Unreachable("off")}, known)["b"] is ProbePriority.ONLY


def test_emulators_name_the_platforms_only_where_there_is_no_board():
    board, emulator = host("pi"), host("beast", Kind.EMULATOR)

    assert naming_kind([emulator, board]) is Kind.BOARD
    assert naming_kind([emulator]) is Kind.EMULATOR


def test_a_host_is_needed_for_what_it_could_do_before_its_trouble():
    """A full disk may have been cleared; a platform that it emulates will not become its own."""
    hosts = [host("pi"), host("beast", Kind.EMULATOR)]
    answered = {"beast": found("beast", "amd64-qemu-user-static")}
    full = replace(found("pi", "pi4"), disk_free=0)

    judged = probe_priorities(jobs(ARM64), hosts, answered, {"pi": full}, HostSelection(), {"beast": 4})
    other = probe_priorities(
        jobs(ARM64), hosts, answered, {"pi": found("pi", "amd64-qemu-user-static")}, HostSelection(), {}
    )

    assert judged == {"pi": ProbePriority.MODE}
    assert other == {"pi": ProbePriority.NONE}


def test_a_host_is_full_with_more_jobs_than_slots_and_has_one_slot_by_default():
    hosts = [host("a"), host("b")]
    answered, known = {"a": found("a", "pi4")}, {"b": found("b", "pi4")}

    assert probe_priorities(jobs(ARM64, ARMV7), hosts, answered, known, HostSelection(), {}) == {
        "b": ProbePriority.QUEUED
    }
    assert probe_priorities(jobs(ARM64), hosts, answered, known, HostSelection(), {}) == {"b": ProbePriority.SPARE}


def test_what_is_full_is_judged_by_the_host_that_builds():
    """Not by the last that could."""
    hosts = [host("a"), host("b"), host("c")]
    answered = {"a": found("a", "pi4"), "b": found("b", "pi4")}

    judged = probe_priorities(
        jobs(ARM64, ARMV7), hosts, answered, {"c": found("c", "pi4")}, HostSelection(), {"a": 1, "b": 1}
    )

    assert judged == {"c": ProbePriority.SPARE}


def test_how_long_each_need_is_waited_for():
    """Needed: to the end. Room: until a dead host is known for dead. Spare: a second more. None: not at all."""
    assert [probe_deadline(need, 10.0, 12.0) for need in ProbePriority] == [12.0, 13.0, 15.5, inf, inf]
    assert probe_deadline(ProbePriority.QUEUED, 10.0, 20.0) == 21.0
