"""What is remembered of a host, and for how long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.domain.durations import ago
from coordinator.domain.hosts.inventory import Address
from coordinator.domain.hosts.last_probe import LastProbe, recall
from tests.unit.placement.farms import found, host, observation

PI4 = host("pi4")
SEEN = LastProbe(observation=observation("pi4"), seen_at=1763930000.2, round_trip=0.4, machine="m b")


def test_facts_are_what_they_were_however_old():
    """The clock is judged by the moment of the probe, not by now."""
    assert recall(PI4, SEEN).facts == found("pi4", "pi4")


@pytest.mark.parametrize(("address", "named"), [(Address(), True), (Address(host="pi4.lan"), False)])
def test_a_full_disk_of_this_machine_names_the_variable_that_moves_the_folder(address, named):
    """For another host it would have to be set in the logins there."""
    seen = replace(SEEN, observation={**observation("pi4"), "state_free": 4 << 20})
    facts = recall(replace(PI4, address=address), seen).facts

    assert facts is not None
    assert facts.blocking is not None
    assert ("; or set XDG_STATE_HOME to a folder on a larger disk" in facts.blocking.hint) is named


@pytest.mark.parametrize(("age", "fresh"), [(0, True), (299, True), (300, False), (-1, False)])
def test_facts_are_fresh_for_five_minutes(age, fresh):
    """A clock that was set back makes them old, not new for ever."""
    assert recall(PI4, SEEN).is_fresh(SEEN.seen_at + age) is fresh


def test_a_host_that_was_blocked_is_asked_again_at_once():
    """Its owner has just typed the cure, and wants to see that it worked."""
    down = LastProbe(observation=observation("engine-down"), seen_at=SEEN.seen_at, round_trip=0.4)

    assert not recall(PI4, down).is_fresh(SEEN.seen_at)


@pytest.mark.parametrize(("age", "silent"), [(0, True), (59, True), (60, False), (-1, False)])
def test_a_dead_host_is_left_alone_for_a_minute(age, silent):
    """And what to say of it tells both times."""
    known = recall(PI4, LastProbe(silent_at=1000.0, message="no SSH answer"))

    assert known.is_silent(1000.0 + age) is silent
    assert known.silence(1012.0) == "no SSH answer, 12 s ago; it is asked again in 48 s"


def test_of_a_host_never_seen_nothing_is_known():
    """Neither facts nor silence."""
    known = recall(PI4, None)

    assert known.facts is None
    assert not known.is_fresh(0.0)
    assert not known.is_silent(0.0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "now"),
        (0.9, "now"),
        (12.9, "12 s ago"),
        (119, "1 min ago"),
        (7199, "1 h ago"),
        (86400, "1 day ago"),
        (3 * 86400, "3 days ago"),
    ],
)
def test_ages_are_told_as_a_person_would(seconds, words):
    """One number and its unit, rounded down."""
    assert ago(seconds) == words
