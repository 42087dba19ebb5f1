"""Whether a lost job is tried again, and where; and whether a push that was lost is.

A build that failed by itself is never tried again: the same Dockerfile fails the same way. What was lost is tried
again where another try can end differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

MOST_ATTEMPTS = 3
# The next try may well be on the same host.
_ANYWHERE = frozenset({"connection", "cut", "no_context", "reboot", "spec_differs", "tunnel", "unknown_job"})
# One more try answers "was it a hiccup?"; a second crash of the emulator on the same step is not one.
_ANYWHERE_ONCE = frozenset({"base", "emulator", "engine", "not_built", "vanished"})
_MOST_PUSHES = 3
# An archive takes the same way to the host, and ends in the same registry.
_ARCHIVE_NO_BETTER = frozenset({"connection", "registry", "unreachable"})
# What no host can mend: the registry said no, or what was to be built is not here any more.
_NOWHERE = frozenset({"changed", "registry"})


class Verdict(StrEnum):
    """`elsewhere`: on a host that has not had the job, if there is one."""

    AGAIN = "again"
    ELSEWHERE = "elsewhere"
    ENOUGH = "enough"


def verdict(codes: Sequence[str]) -> Verdict:
    """`codes` are the reasons of the attempts lost so far, the latest last."""
    last = codes[-1]
    if len(codes) >= MOST_ATTEMPTS or last in _NOWHERE:
        return Verdict.ENOUGH
    if last in _ANYWHERE or (last in _ANYWHERE_ONCE and codes.count(last) == 1):
        return Verdict.AGAIN
    return Verdict.ELSEWHERE


def pushed_again(code: str, losses: int, *, tunnel: bool) -> bool:
    """Whether a finished image is sent once more after so many losses, the last for this reason.

    `tunnel`: the host's engine reaches the tunnel, so that an archive is another way, which is tried once.
    """
    if code == "not_built":
        return False
    return losses < _MOST_PUSHES + (tunnel and code not in _ARCHIVE_NO_BETTER)


def leaves_as_archive(losses: int) -> bool:
    """Whether the tunnel has been tried often enough."""
    return losses >= _MOST_PUSHES
