"""Why a push or a pull through the broker failed: the registry's refusal takes precedence over the engine's message."""

from __future__ import annotations

from coordinator.broker.grant import Grant
from coordinator.domain.causes import Cause, rule
from coordinator.domain.run.registry_trouble import is_final
from coordinator.errors import ArchloomError, LostError


def reason(grant: Grant, error: ArchloomError) -> ArchloomError:
    """Return a LostError where the host, its engine or its connection failed, else what the registry answered.

    The agent reports every engine message that it does not know as `refused`. But every refusal of a registry passes
    through the broker, which records it in the grant: without one, the engine or its connection failed.
    """
    if grant.refusal is None:
        return LostError(error.message, code=Cause.ENGINE) if error.code == Cause.REFUSED else error
    if rule(error.code).may_return and not is_final(grant.refusal.code):
        # The host was lost after the registry's answer: it is to be reached first.
        return error
    return grant.refusal
