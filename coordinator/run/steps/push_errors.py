"""Why a push or a pull through the broker failed: the registry's own word goes before what the engine makes of it."""

from __future__ import annotations

from coordinator.broker.grant import RETRYABLE, Grant
from coordinator.domain.causes import Cause
from coordinator.errors import ArchloomError, LostError


def reason(grant: Grant, error: ArchloomError) -> ArchloomError:
    """LostError for what may pass, so that it is tried again; the registry's refusal where that is its last word.

    The agent takes whatever complaint of an engine it does not know for a refusal. But every refusal goes through the
    broker, which keeps it: where it has none, the engine or its connection failed.
    """
    if grant.refusal is None:
        return LostError(error.message, code=Cause.ENGINE) if error.code == Cause.REFUSED else error
    if grant.refusal.code in RETRYABLE:
        return LostError(grant.refusal.message, code=Cause.REGISTRY)
    return grant.refusal
