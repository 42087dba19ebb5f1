"""Whether a lost job is tried again, and on which host; and whether a lost push is repeated.

A failed build is not tried again: the same Dockerfile fails the same way. Only a network that failed in one of its
steps gives it a second try. A lost job is tried again where another attempt can end differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from coordinator.domain.causes import Cause, Retry, rule

MAX_ATTEMPTS = 3
_MAX_TUNNEL_PUSHES = 3


class Verdict(StrEnum):
    """`again`: on any host; `elsewhere`: only on a host that has not had the job; `enough`: not again."""

    AGAIN = "again"
    ELSEWHERE = "elsewhere"
    ENOUGH = "enough"


def verdict(codes: Sequence[str]) -> Verdict:
    """Return whether and where a job is tried again; `codes` are the causes of its lost attempts, the latest last."""
    last = codes[-1]
    if len(codes) >= MAX_ATTEMPTS:
        return Verdict.ENOUGH
    match rule(last).retry:
        case Retry.NO_HOST:
            return Verdict.ENOUGH
        case Retry.ANY_HOST:
            return Verdict.AGAIN
        case Retry.ANY_HOST_ONCE:
            return Verdict.AGAIN if codes.count(last) == 1 else Verdict.ELSEWHERE
        case Retry.ONCE:
            return Verdict.AGAIN if codes.count(last) == 1 else Verdict.ENOUGH
        case Retry.OTHER_HOST:
            return Verdict.ELSEWHERE


def pushed_again(code: str, losses: int, *, tunnel: bool) -> bool:
    """Return whether a built image is pushed again after `losses` lost pushes, the last with cause `code`.

    `tunnel`: the host's engine reaches the tunnel, so that a transfer as an archive remains, which is tried once.
    """
    if code == Cause.NOT_BUILT:
        return False
    return losses < _MAX_TUNNEL_PUSHES + (tunnel and rule(code).archive_helps)


def next_push_is_archive(losses: int) -> bool:
    """Return whether the tunnel has been tried often enough, so that the next push is a transfer as an archive."""
    return losses >= _MAX_TUNNEL_PUSHES


def push_cause(code: str) -> Cause:
    """Return the cause of an attempt whose push is given up, from the cause of the last lost push."""
    return Cause(code) if code in {Cause.NOT_BUILT, Cause.REGISTRY} else Cause.PUSH
