"""`resume`, `retry` and `cancel` of runs that cannot be: each refusal says why, and what can be done instead."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.domain.image.index import Child
from coordinator.domain.image.platforms import Mode
from coordinator.domain.image.references import parse
from coordinator.domain.image.verified_child import VerifiedChild
from coordinator.domain.run.states import TargetEvent
from coordinator.domain.targets.request import BuildRequest
from coordinator.domain.targets.target import Target
from tests.edges.run.simulated_world import descriptor, image_of
from tests.edges.state.state_bed import AMD64, ARM64, DIGEST, GOOD, TAG, StateBed, dead_driver, state_bed


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[StateBed]:
    with state_bed(tmp_path / "home") as opened:
        yield opened


def refused(bed: StateBed, *words: str, code: int = 2) -> str:
    done = bed.home.run(*words)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "\nhint: " in done.stderr
    return done.stderr


@pytest.mark.parametrize("command", ["resume", "retry", "cancel"])
def test_a_run_has_to_be_told_apart(bed, command):
    """Nobody's id, and the beginning of two."""
    bed.begin("7f3a")
    bed.begin("7f00")

    assert "there is no run 'abc'" in refused(bed, command, "abc")
    assert "more than one run begins with '7f'" in refused(bed, command, "7f")
    assert "there is no run ''" in refused(bed, command, "")


def test_there_is_nothing_to_go_on_with(bed):
    """No run at all, and none that has not ended."""
    assert "no run is unfinished" in refused(bed, "resume")
    assert "archloom build starts one" in refused(bed, "retry")
    bed.begin("7f3a")
    bed.publish("7f3a")
    assert "no run is unfinished" in refused(bed, "resume")


def test_a_run_that_has_ended_is_not_resumed(bed):
    """It says how it ended, and what builds the rest where there is any."""
    bed.begin("aaaa")
    bed.publish("aaaa")
    bed.begin("bbbb")
    bed.fail("bbbb")

    assert "it is published" in refused(bed, "resume", "aaaa")
    failed = refused(bed, "resume", "bbbb")
    assert "exit 4" in failed
    assert "archloom retry bbbb" in failed


def test_a_run_that_somebody_drives_is_theirs(bed):
    """Who, in which process; nothing of the run is changed."""
    bed.begin("7f3a")
    before = bed.store.run("7f3a")

    said = refused(bed, "resume", code=7)

    assert f"run 7f3a is driven by ann@desk (pid {os.getpid()})" in said
    assert "archloom attach 7f3a" in said
    assert bed.store.run("7f3a") == before


def test_what_cannot_be_tried_again(bed):
    """A run under way, one that is published, a platform it does not have, and one that did not fail."""
    bed.begin("7f3a", driver=dead_driver())
    assert "archloom resume 7f3a" in refused(bed, "retry", "7f3a")
    bed.begin("aaaa")
    bed.publish("aaaa")
    assert "there is nothing to try again" in refused(bed, "retry", "aaaa")
    bed.begin("bbbb")
    bed.fail("bbbb")
    assert "created by an older archloom" in refused(bed, "retry", "bbbb")
    assert "created by an older archloom" in refused(bed, "retry", str(AMD64))
    assert "unknown" in refused(bed, "retry", "bbbb", "linux/arm65").lower()


def test_what_has_ended_is_not_cancelled(bed):
    """It says how it ended."""
    bed.begin("aaaa")
    bed.publish("aaaa")
    bed.begin("bbbb", platforms=(ARM64,))
    bed.fail("bbbb")

    assert "has ended already: published" in refused(bed, "cancel", "aaaa")
    assert "has ended already: exit 4" in refused(bed, "cancel", "bbbb")


def test_a_run_that_was_published_just_before_is_not_cancelled(bed):
    """Its driver died after the last commit and before it could say so: the tags have moved, and the run says that."""
    target = Target(
        name="default", context="/src", dockerfile="/src/Dockerfile", tags=(parse(TAG),), platforms=(AMD64,)
    )
    request = BuildRequest(target=target).to_json()
    bed.store.create_run("7f3a", request, {AMD64: "a" * 64}, driver=dead_driver(), inputs={}, inventory="")
    attempt = bed.assign("7f3a")
    for event in GOOD:
        bed.store.move_attempt(attempt, event, digest=DIGEST)
    child = Child(platform=AMD64, descriptor=descriptor(AMD64, image_of(AMD64)))
    stored = VerifiedChild(child=child, config_digest="", pin="archloom-1", mode=Mode.NATIVE, host="pi5")
    bed.store.verify_job(bed.store.run("7f3a").jobs[0].id, stored.to_json(), winner=attempt)
    for step in (TargetEvent.COMPLETE, TargetEvent.INDEX, TargetEvent.TAG, TargetEvent.PUBLISH):
        bed.store.move_target("7f3a", step, digest=DIGEST)

    assert "has ended before it could be cancelled: published" in refused(bed, "cancel", "7f3a")
    assert bed.store.run("7f3a").exit_code == 0
    assert "7f3a" in bed.home.run("runs", "--state", "published").stdout


def test_a_later_run_is_known_by_its_order(bed):
    """It has published the tag, with a clock that was set back before it began: the tag is not moved back."""
    bed.begin("aaaa", driver=dead_driver())
    bed.at = bed.now() - 10_800.0
    bed.begin("bbbb")
    bed.publish("bbbb")

    assert f"run bbbb, begun later than run aaaa, has published {TAG} since" in refused(bed, "resume", "aaaa")
