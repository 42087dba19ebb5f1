"""Durations formatted for display: how long ago something happened, how long it takes."""

from __future__ import annotations

_UNITS = ((86400.0, "day"), (3600.0, "h"), (60.0, "min"))
_NOW_S = 1.0
_LONGEST_IN_SECONDS_S = 120.0


def ago(seconds: float) -> str:
    """Return `now`, `12 s ago`, `2 min ago`, `3 h ago`, `1 day ago`; always rounded down."""
    if seconds < _NOW_S:
        return "now"
    for unit, name in _UNITS:
        if seconds >= unit:
            count = int(seconds // unit)
            return f"{count} {name}{'s' if name == 'day' and count > 1 else ''} ago"
    return f"{int(seconds)} s ago"


def span(seconds: float) -> str:
    """Return `0 s`, `119 s`, `2 min`, `3 h`, `2 days`; rounded to the nearest whole."""
    for unit, name in _UNITS:
        if seconds >= max(unit, _LONGEST_IN_SECONDS_S):
            count = round(seconds / unit)
            return f"{count} {name}{'s' if name == 'day' and count > 1 else ''}"
    return f"{round(max(0.0, seconds))} s"
