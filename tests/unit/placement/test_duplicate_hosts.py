"""Entries of the inventory against what is found there: pins that are wrong, and two names for one machine."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from coordinator.domain.hosts.inventory import Inventory, Kind
from coordinator.domain.hosts.problems import SAME_MACHINE, Severity
from coordinator.domain.placement.duplicate_hosts import mark_duplicates, with_pins
from coordinator.domain.placement.eligibility import JobRequirements, Unreachable
from coordinator.domain.placement.plan import plan
from coordinator.domain.placement.skipped_hosts import skipped_lines
from coordinator.errors import NoHostError
from tests.unit.placement.farms import ARM64, ARMV7, WANTED, farms, found, host

PI4, PI4B, PI5 = host("pi4"), host("pi4b"), host("pi5")
FARM = Inventory(hosts=(PI4, PI4B, PI5), source="/home/u/inventory.yaml")


def test_platforms_that_the_host_does_not_run_are_a_problem():
    """The entry says arm64, and a 32-bit system was found: said with what to write instead."""
    entry = host("pi3", platforms=(ARM64, ARMV7))

    problem = with_pins(entry, found("pi3", "pi3-32bit")).problem("pins")

    assert problem is not None
    assert problem.severity is Severity.WARNING
    expected = "the inventory says platforms: linux/arm64, and the probe found linux/arm/v7, linux/arm/v6, linux/arm/v5"
    assert problem.message == expected
    assert "correct platforms: of pi3" in problem.hint


def test_pins_say_nothing_of_a_host_whose_engine_does_not_answer():
    """Nobody knows yet what it runs."""
    down = found("pi4", "engine-down")

    assert with_pins(host("pi4", platforms=(ARM64,)), down) == down
    assert with_pins(host("pi4", platforms=(ARM64,)), found("pi4", "pi4")).problem("pins") is None


def test_the_second_entry_of_one_machine_is_left_out():
    """Its slots would be counted twice; the line to remove is in the hint."""
    seen = {name: found(name, "pi4") for name in ("pi4", "pi4b", "pi5")}
    machines = {"pi4": "m1 b1", "pi4b": "m1 b1", "pi5": "m2 b2"}

    judged = mark_duplicates(FARM, seen, machines)
    made = plan([JobRequirements(platform=ARM64)], FARM.hosts, judged)

    assert judged["pi4"] == seen["pi4"]
    assert judged["pi5"] == seen["pi5"]
    assert [choice.host for choice in made.placements[0].choices] == ["pi4", "pi5"]
    (line,) = skipped_lines(made)
    assert line.startswith("pi4b is left out: pi4b (ssh://pi4b.lan) and pi4 (ssh://pi4.lan) are the same machine; see")
    (problem, *_) = judged["pi4b"].problems
    assert problem.hint == "remove the entry pi4b: under boards: in /home/u/inventory.yaml"


def test_a_copied_card_is_another_machine():
    """Ids of machine and engine are copied with it, the id of a boot is not; nor is a second engine a twin."""
    seen = {name: found(name, "pi4") for name in ("pi4", "pi4b")}
    other = seen["pi4"].engine
    assert other is not None
    with_two = {**seen, "pi4b": replace(seen["pi4b"], engine=replace(other, id="OTHER"))}

    assert mark_duplicates(FARM, seen, {"pi4": "m1 b1", "pi4b": "m1 b2"}) == seen
    assert mark_duplicates(FARM, with_two, {"pi4": "m1 b1", "pi4b": "m1 b1"}) == with_two
    assert mark_duplicates(FARM, seen, {}) == seen


def test_a_twin_could_never_build_what_its_machine_cannot():
    """That it is left out is not what stands in the way."""
    seen = {name: found(name, "pi2") for name in ("pi4", "pi4b")}
    judged = mark_duplicates(FARM, seen, dict.fromkeys(seen, "m1 b1"))

    assert type(plan([JobRequirements(platform=ARM64)], [PI4, PI4B], judged).no_host_error()) is NoHostError


def test_a_line_for_each_host_that_might_have_helped():
    """Dead, blocked and contradicted hosts are named; those of other platforms are not."""
    hosts = [host("off"), host("old"), host("down"), host("pi4"), host("pi3", platforms=(ARM64, ARMV7))]
    seen = {
        "off": Unreachable("no SSH answer from off.lan port 22 in 5 s"),
        "old": Unreachable("no SSH answer", known=found("old", "pi-zero-w")),
        "down": found("down", "engine-down"),
        "pi4": found("pi4", "pi4"),
        "pi3": found("pi3", "pi3-32bit"),
    }

    lines = skipped_lines(plan([JobRequirements(platform=ARM64), JobRequirements(platform=ARMV7)], hosts, seen))

    assert lines[0] == "off is left out: no SSH answer from off.lan port 22 in 5 s"
    assert lines[1].startswith("down is left out: ")
    assert lines[1].endswith("; see archloom boards down")
    assert lines[2].startswith("pi3 is left out for linux/arm64: the inventory says linux/arm64")
    assert len(lines) == 3


@given(farms(), WANTED)
def test_a_host_that_takes_every_job_is_in_no_line(farm, platforms):
    """Nor is one twice for the same reason."""
    hosts, seen = farm
    made = plan([JobRequirements(platform=platform) for platform in platforms], hosts, seen)
    lines = skipped_lines(made)

    assert len(set(lines)) == len(lines)
    for one in hosts:
        if all(one.name in {choice.host for choice in placement.choices} for placement in made.placements):
            assert not any(line.startswith(f"{one.name} ") for line in lines)


def test_an_emulator_runs_what_it_emulates_and_a_board_does_not():
    """Also in what the inventory says of it; other problems are kept."""
    seen = replace(found("beast", "amd64-qemu-user-static"), problems=found("a", "pi3-32bit").problems)
    emulator = host("beast", Kind.EMULATOR, platforms=(ARM64,))

    assert with_pins(emulator, seen) == seen
    judged = with_pins(replace(emulator, kind=Kind.BOARD), seen)
    assert judged.problems[:-1] == seen.problems
    assert judged.problems[-1].code == "pins"


def test_an_entry_that_does_not_answer_hides_no_twin():
    """Whatever its place in the inventory; the other problems of the twin are kept."""
    seen = {"pi4": Unreachable("off"), "pi4b": found("pi4b", "pi4"), "pi5": found("pi5", "clock-a-year-back")}
    seen["pi5"] = replace(seen["pi5"], engine=seen["pi4b"].engine)

    judged = mark_duplicates(FARM, seen, dict.fromkeys(seen, "m1 b1"))

    assert (judged["pi4"], judged["pi4b"]) == (seen["pi4"], seen["pi4b"])
    assert judged["pi5"].problems[0].code == SAME_MACHINE
    assert judged["pi5"].problems[1:] == seen["pi5"].problems


@pytest.mark.parametrize(
    ("seen", "is_shown", "has_more"),
    [
        (Unreachable("off", "switch it on"), True, False),
        (Unreachable("no agent", "see why", alive=True), True, True),
        (Unreachable("no agent", alive=True), True, False),
        (found("pi4", "engine-down"), True, True),
        (found("pi4", "pi2"), False, False),
    ],
)
def test_a_host_that_might_have_built_it_has_a_line(seen, is_shown, has_more):
    """It names the command that says more, where there is more to say."""
    lines = skipped_lines(plan([JobRequirements(platform=ARM64)], [PI4], {"pi4": seen}))

    assert len(lines) == is_shown
    assert any("archloom boards pi4" in line for line in lines) is has_more
