"""Errors while a context is read, for the user."""

from __future__ import annotations

from coordinator.domain.causes import Cause, rule
from coordinator.domain.visible import visible_name
from coordinator.errors import UsageError

UNREADABLE = "context"


def changed(path: str) -> UsageError:
    """Return the error for an entry that something writes to while it is read."""
    return UsageError(
        f"{visible_name(path)} changed while the context was read",
        hint=rule(Cause.CHANGED).hint,
        code="context_changed",
    )


def unreadable(path: str, error: OSError) -> UsageError:
    """Return the error for a file that cannot be opened, or a folder that cannot be listed."""
    return UsageError(
        f"cannot read {visible_name(path)} in the context: {error.strerror}",
        hint="make it readable, and run again: ls -l shows whose it is",
        code=UNREADABLE,
    )
