"""Errors while a context is read, for the user."""

from __future__ import annotations

import re
import shlex

from coordinator.domain.causes import Cause, rule
from coordinator.domain.visible import visible_name
from coordinator.errors import UsageError

# What echo takes for an option, or .dockerignore for a pattern, a comment or a blank to drop.
_NO_PLAIN_LINE = re.compile(r"[-#!\s]|.*[*?\[\\]|.*\s\Z")


def changed(path: str) -> UsageError:
    """Return the error for an entry that something writes to while it is read."""
    return UsageError(
        f"{visible_name(path)} changed while the context was read",
        hint=rule(Cause.CHANGED).hint,
        code="context_changed",
    )


def unreadable(path: str, error: OSError) -> UsageError:
    """Return the error for a file that cannot be opened, or a folder that cannot be listed."""
    hint = f"make it readable (chmod u+r), or leave it out: {_ignoring(path)}"
    return UsageError(f"cannot read {visible_name(path)} in the context: {error.strerror}", hint=hint, code="context")


def _ignoring(path: str) -> str:
    """Return the command that ignores the path; without one where the name needs more than quotes."""
    if not path.isprintable() or _NO_PLAIN_LINE.match(path):
        return "name it in .dockerignore"
    return f"echo {shlex.quote(path)} >> .dockerignore"
