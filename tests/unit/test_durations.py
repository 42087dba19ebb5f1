"""How long ago something happened, and how long it lasts, for display."""

from __future__ import annotations

import pytest

from coordinator.domain.durations import ago, span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5.0, "now"),
        (0.99, "now"),
        (1.0, "1 s ago"),
        (59.9, "59 s ago"),
        (60.0, "1 min ago"),
        (119.9, "1 min ago"),
        (3599.9, "59 min ago"),
        (3600.0, "1 h ago"),
        (86399.9, "23 h ago"),
        (86400.0, "1 day ago"),
        (172799.9, "1 day ago"),
        (172800.0, "2 days ago"),
    ],
)
def test_the_largest_unit_that_fits_rounded_down(seconds, text):
    assert ago(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0 s"),
        (0.4, "0 s"),
        (1.6, "2 s"),
        (119.0, "119 s"),
        (120.0, "2 min"),
        (299.0, "5 min"),
        (3600.0, "1 h"),
        (86400.0, "1 day"),
        (200000.0, "2 days"),
    ],
)
def test_a_span_is_rounded_to_the_nearest(seconds, text):
    """In seconds up to two minutes, where a person counts them."""
    assert span(seconds) == text
