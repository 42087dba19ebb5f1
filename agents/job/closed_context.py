"""How a build reads a context with entries that modes close to the login user. Recorded when the context arrives."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

FILE = "context.closed"


class Access(Enum):
    """`NAMESPACE`: the engine's program runs in a user namespace. `ARCHIVE`: the agent reads, and sends an archive."""

    NAMESPACE = "namespace"
    ARCHIVE = "archive"


def write(folder: Path, access: Access | None) -> None:
    """Record how the context in this job folder is read; None for a context that the login user can open."""
    if access is None:
        (folder / FILE).unlink(missing_ok=True)
    else:
        (folder / FILE).write_text(access.value, encoding="ascii")


def read(folder: Path) -> Access | None:
    """Return what was recorded for the context in this job folder."""
    try:
        return Access((folder / FILE).read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
