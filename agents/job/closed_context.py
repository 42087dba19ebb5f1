"""How a build reads a context with entries that modes close to the login user. Recorded when the context arrives."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path

from agents.base import files
from agents.base.errors import AgentError

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
    """Return what was recorded for the context in this job folder. Raises AgentError `state` where it is damaged."""
    if not os.path.lexists(folder / FILE):
        return None
    try:
        return Access((files.read(folder / FILE) or b"").decode("ascii", "replace"))
    except ValueError:
        # Not as if there were none: the engine would leave the closed entries out without an error.
        raise AgentError("state", f"{folder / FILE} is damaged") from None
