"""Why a push or a pull through the broker failed: the registry's refusal takes precedence over the engine's message."""

from __future__ import annotations

from coordinator.broker.grant import RETRYABLE, Grant
from coordinator.domain.causes import Cause
from coordinator.errors import ArchloomError, LostError


def reason(grant: Grant, error: ArchloomError) -> ArchloomError:
    """Return a LostError where a retry may succeed, else the registry's refusal.

    The agent reports every engine message that it does not know as `refused`. But every refusal of a registry passes
    through the broker, which records it in the grant: without one, the engine or its connection failed.
    """
    if grant.refusal is None:
        return LostError(error.message, code=Cause.ENGINE) if error.code == Cause.REFUSED else error
    if grant.refusal.code in RETRYABLE:
        return LostError(grant.refusal.message, code=Cause.REGISTRY)
    return grant.refusal
