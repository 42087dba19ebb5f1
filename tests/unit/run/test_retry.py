"""What is tried again: a push that was lost, by the same way, then by the other."""

from __future__ import annotations

import pytest

from coordinator.domain.run.retry import Verdict, next_push_is_archive, push_cause, pushed_again, verdict


@pytest.mark.parametrize("code", ["tunnel", "engine", "push", "cut"])
def test_three_lost_pushes_leave_one_try_by_archive(code):
    """The image is held; what is lost that way too goes to another host, where there is one."""
    tries = [pushed_again(code, losses, tunnel=True) for losses in (1, 2, 3, 4)]

    assert tries == [True, True, True, False]
    assert [next_push_is_archive(losses) for losses in (0, 1, 2, 3)] == [False, False, False, True]
    assert verdict(["push"]) is Verdict.ELSEWHERE


@pytest.mark.parametrize("code", ["base", "emulator", "engine", "not_built", "vanished"])
def test_what_may_have_been_a_hiccup_is_tried_again_once(code):
    """A second loss of the same kind is none; two of different kinds are two hiccups."""
    assert verdict([code]) is Verdict.AGAIN
    assert verdict([code, code]) is Verdict.ELSEWHERE
    assert verdict(["connection", code]) is Verdict.AGAIN


@pytest.mark.parametrize("code", ["connection", "cut", "no_context", "reboot", "tunnel", "unknown_job"])
def test_what_has_passed_is_tried_again_anywhere_until_it_is_enough(code):
    """Three attempts are all that a job gets."""
    assert [verdict([code] * count) for count in (1, 2, 3)] == [Verdict.AGAIN, Verdict.AGAIN, Verdict.ENOUGH]


def test_a_network_that_fails_in_a_step_gives_the_build_one_more_try():
    """It is a failed build otherwise, on whatever host."""
    assert verdict(["network"]) is verdict(["connection", "network"]) is Verdict.AGAIN
    assert verdict(["network", "network"]) is verdict(["network", "disk", "network"]) is Verdict.ENOUGH


@pytest.mark.parametrize("code", ["disk", "memory", "unreachable", "push", "melted"])
def test_what_the_same_host_would_do_again_goes_to_another(code):
    assert verdict([code]) is Verdict.ELSEWHERE


@pytest.mark.parametrize("code", ["registry", "changed"])
def test_what_no_host_can_mend_is_not_tried_again(code):
    assert verdict([code]) is Verdict.ENOUGH


@pytest.mark.parametrize("code", ["registry", "connection", "unreachable"])
def test_where_an_archive_would_fare_no_better_it_is_not_tried(code):
    """It takes the same way to the host, and ends in the same registry."""
    assert [pushed_again(code, losses, tunnel=True) for losses in (1, 2, 3)] == [True, True, False]


def test_a_host_without_a_tunnel_has_no_other_way():
    """Its archives are tried as often as a tunnel would be."""
    assert [pushed_again("cut", losses, tunnel=False) for losses in (1, 2, 3)] == [True, True, False]


def test_what_is_not_there_is_not_pushed_again():
    """The image has been pruned: it is built again."""
    assert not pushed_again("not_built", 1, tunnel=True)


def test_the_latest_loss_decides():
    """What was lost before counts only where it was the same."""
    assert verdict(["disk", "connection"]) is Verdict.AGAIN
    assert verdict(["connection", "disk"]) is Verdict.ELSEWHERE
    assert verdict(["connection", "registry"]) is Verdict.ENOUGH


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("not_built", "not_built"),
        ("registry", "registry"),
        ("tunnel", "push"),
        ("disk", "push"),
        ("melted", "push"),
        ("", "push"),
    ],
)
def test_a_push_that_is_given_up_ends_the_attempt_with_a_cause(code, cause):
    """Its own where another host would end the same way or the image is gone; else that of the push."""
    assert push_cause(code) == cause
