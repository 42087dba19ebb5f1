"""Errors while a context is read, for the user."""

from __future__ import annotations

from coordinator.errors import UsageError


def changed(path: str) -> UsageError:
    """Return the error for an entry that something writes to while it is read."""
    return UsageError(
        f"{shown(path)} changed while the context was read",
        hint="run again when nothing writes there, or name it in .dockerignore",
        code="context_changed",
    )


def unreadable(path: str, error: OSError) -> UsageError:
    """Return the error for a file that cannot be opened, or a folder that cannot be listed."""
    hint = f"make it readable (chmod u+r), or leave it out: echo '{shown(path)}' >> .dockerignore"
    return UsageError(f"cannot read {shown(path)} in the context: {error.strerror}", hint=hint, code="context")


def shown(path: str) -> str:
    """Return the path as a terminal can show it."""
    return path if path.isprintable() else ascii(path)
