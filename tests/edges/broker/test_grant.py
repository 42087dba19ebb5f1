"""When the board last moved a byte of a job, as the client of its agent asks it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from coordinator.broker.grant import Grant


@dataclass
class Half:
    waits_since: float | None = None


def test_a_board_that_is_waited_for_is_silent_since_then():
    """Of several requests the latest counts; the registry's silence is not the board's."""
    grant = Grant(job="7f3a", push=None, bases={})
    began = time.monotonic()
    assert grant.last_byte() <= began
    body, reply, other = Half(began + 10), Half(), Half(began + 20)
    with grant.serving(body, reply):
        assert grant.last_byte() == began + 10
        with grant.serving(Half(), other):
            assert grant.last_byte() == began + 20
        body.waits_since = None
        assert began <= grant.last_byte() <= time.monotonic()
        reply.waits_since = began + 30
        assert grant.last_byte() == began + 30
    assert began <= grant.last_byte() <= time.monotonic()
