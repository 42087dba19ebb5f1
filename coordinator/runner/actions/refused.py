"""Why a push or a pull through the broker failed: the registry's own word goes before what the engine makes of it."""

from __future__ import annotations

from coordinator.errors import ArchloomError, LostError
from coordinator.registry.doors import PASSING, Door


def reason(door: Door, error: ArchloomError) -> ArchloomError:
    """LostError for what may pass, so that it is tried again; the registry's refusal where that is its last word.

    An engine whose connection broke says so in many words, and the agent takes what it does not know for a refusal. But
    a refusal comes through the broker: a registry's is known to its door, and the broker's own has its name in it.
    """
    if door.refusal is None:
        if error.code == "refused" and "archloom: " not in error.message:
            return LostError(error.message, code="tunnel")
        return error
    if door.refusal.code in PASSING:
        return LostError(door.refusal.message, code="registry")
    return door.refusal
