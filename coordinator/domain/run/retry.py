"""Whether a lost job is tried again, and where; and whether a push that was lost is.

A build that failed by itself is never tried again: the same Dockerfile fails the same way. What was lost is tried
again where another try can end differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from coordinator.domain.causes import Cause, Retry, rule

MOST_ATTEMPTS = 3
_MOST_PUSHES = 3


class Verdict(StrEnum):
    """`elsewhere`: on a host that has not had the job, if there is one."""

    AGAIN = "again"
    ELSEWHERE = "elsewhere"
    ENOUGH = "enough"


def verdict(codes: Sequence[str]) -> Verdict:
    """`codes` are the causes of the attempts lost so far, the latest last."""
    last = codes[-1]
    if len(codes) >= MOST_ATTEMPTS:
        return Verdict.ENOUGH
    match rule(last).retry:
        case Retry.NO_HOST:
            return Verdict.ENOUGH
        case Retry.ANY_HOST:
            return Verdict.AGAIN
        case Retry.ANY_HOST_ONCE:
            return Verdict.AGAIN if codes.count(last) == 1 else Verdict.ELSEWHERE
        case Retry.OTHER_HOST:
            return Verdict.ELSEWHERE


def pushed_again(code: str, losses: int, *, tunnel: bool) -> bool:
    """Whether a finished image is sent once more after so many losses, the last for this cause.

    `tunnel`: the host's engine reaches the tunnel, so that an archive is another way, which is tried once.
    """
    if code == Cause.NOT_BUILT:
        return False
    return losses < _MOST_PUSHES + (tunnel and rule(code).archive_helps)


def leaves_as_archive(losses: int) -> bool:
    """Whether the tunnel has been tried often enough."""
    return losses >= _MOST_PUSHES


def push_cause(code: str) -> Cause:
    """The cause that an attempt ends with when its push is given up."""
    return Cause(code) if code in {Cause.NOT_BUILT, Cause.REGISTRY} else Cause.PUSH
