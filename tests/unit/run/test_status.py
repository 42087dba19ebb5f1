"""The status of a run, in one word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.domain.run.lease import Driver, Lease
from coordinator.domain.run.model import Run
from coordinator.domain.run.states import TargetState
from coordinator.domain.run.status import Status, status
from coordinator.errors import Exit

DRIVER = Driver(token="t", holder="ada@here", pid=1, started="1", boot_id="b")
RUN = Run(id="7f3a", request={}, target_state=TargetState.OPEN, index_digest="", jobs=())


@pytest.mark.parametrize(
    ("lease", "alive", "expected"),
    [
        (None, True, Status.INTERRUPTED),
        (Lease(driver=DRIVER, beat_at=0.0), True, Status.RUNNING),
        (Lease(driver=DRIVER, beat_at=100.0), False, Status.INTERRUPTED),
        (Lease(driver=DRIVER, beat_at=100.0), None, Status.RUNNING),
        (Lease(driver=DRIVER, beat_at=0.0), None, Status.INTERRUPTED),
    ],
)
def test_a_run_is_running_while_its_driver_may_live(lease, alive, expected):
    """The driver that is asked about is the lease's."""
    asked = []

    assert status(replace(RUN, lease=lease), 100.0, lambda driver: asked.append(driver) or alive) is expected
    assert asked == ([DRIVER] if lease else [])
    assert not expected.is_over


@pytest.mark.parametrize(
    ("exit_code", "expected"),
    [
        (Exit.DONE, Status.PUBLISHED),
        (Exit.BUG, Status.FAILED),
        (Exit.USAGE, Status.FAILED),
        (Exit.NO_HOST, Status.FAILED),
        (Exit.BUILD_FAILED, Status.FAILED),
        (Exit.LOST, Status.LOST),
        (Exit.REGISTRY, Status.FAILED),
        (Exit.INTERRUPTED, Status.CANCELLED),
        (99, Status.FAILED),
    ],
)
@pytest.mark.parametrize("lease", [None, Lease(driver=DRIVER, beat_at=100.0)])
def test_how_a_run_ended_follows_from_its_exit_code(exit_code, expected, lease):
    """A lease that was left behind changes nothing."""
    ended = replace(RUN, finished_at=0.0, exit_code=exit_code, lease=lease)

    assert status(ended, 100.0, lambda _: True) is expected
    assert expected.is_over


def test_a_tag_that_another_client_moved_is_a_conflict():
    """Whatever the exit code is."""
    ended = replace(RUN, finished_at=1.0, exit_code=Exit.REGISTRY, target_state=TargetState.CONFLICT)

    assert status(ended, 100.0, lambda _: True) is Status.CONFLICT
    assert Status.CONFLICT.is_over
