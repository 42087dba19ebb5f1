"""Which failures of a registry are waited for, how long, and how often the user is told."""

from __future__ import annotations

import pytest

from coordinator.domain.causes import Cause
from coordinator.domain.run.registry_trouble import is_final, line_is_due, next_pause
from coordinator.errors import RegistryCode

WORDS = "conflict immutable internal invalid malformed mismatch schema1 too_large zstd"


def test_only_a_refused_content_is_final():
    """A proxy before a registry that restarts answers 401, 403, 404, 405 or a web page; none of them stays."""
    assert {code for code in (*RegistryCode, *Cause) if is_final(code)} == {*WORDS.split()}
    assert not is_final("")
    assert not is_final("certificate")


def test_pauses_grow_to_ten_seconds():
    assert [next_pause(tries, 0.0) for tries in range(1, 8)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]


@pytest.mark.parametrize(("asked", "pause"), [(0.5, 1.0), (30.0, 30.0), (60.0, 60.0), (61.0, 1.0), (86400.0, 1.0)])
def test_a_pause_that_the_registry_asks_for_is_kept_up_to_a_minute(asked, pause):
    assert next_pause(1, asked) == pause


@pytest.mark.parametrize(
    ("seconds", "since", "due"), [(20.0, 0.9, False), (20.0, 1.0, True), (90.0, 10.0, False), (90.0, 30.0, True)]
)
def test_a_line_with_every_try_and_later_every_thirty_seconds(seconds, since, due):
    assert line_is_due(seconds, since) is due
