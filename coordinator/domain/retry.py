"""Whether a lost job is tried again.

A build that failed by itself is never tried again: the same Dockerfile fails the same way. What was lost is tried
again when another try can end differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

MOST_ATTEMPTS = 3
# One more try answers "was it a hiccup?"; a second crash of the emulator on the same step is not one.
_ONCE = frozenset({"emulator", "engine", "vanished", "base"})
_AGAIN = frozenset({"connection", "cut", "no_context", "reboot", "tunnel", "unknown_job"})


class Verdict(StrEnum):
    AGAIN = "again"
    ENOUGH = "enough"


def verdict(codes: Sequence[str]) -> Verdict:
    """`codes` are the reasons of the attempts lost so far, the latest last.

    `disk`, `memory`, `registry` and unknown reasons end it: the same host would end the same way.
    """
    last = codes[-1]
    if len(codes) >= MOST_ATTEMPTS:
        return Verdict.ENOUGH
    if last in _AGAIN or (last in _ONCE and codes.count(last) == 1):
        return Verdict.AGAIN
    return Verdict.ENOUGH
