"""Convert an exception to an AgentError: a full disk has its own code, other unexpected exceptions are `internal`."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from agents.base.errors import AgentError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def explain(error: Exception, folder: Path) -> AgentError:
    """Return the AgentError for an exception: itself, `disk` with the bytes free below `folder`, or `internal`."""
    if isinstance(error, AgentError):
        return error
    if isinstance(error, OSError) and is_full(error):
        return full(folder)
    return AgentError("internal", f"{type(error).__name__}: {error}")


def is_full(error: OSError) -> bool:
    """Return whether a full disk, or a quota that is used up, caused this error."""
    return error.errno in _FULL


def full(folder: Path) -> AgentError:
    """Return the AgentError `disk` with the bytes free below `folder`, which need not exist."""
    status = os.statvfs(next(place for place in (folder, *folder.parents) if place.exists()))
    free = status.f_bavail * status.f_frsize
    if status.f_files and not status.f_favail:
        return AgentError("disk", f"no file names (inodes) left below {folder}", free=free)
    # Not "no space left": what was written in vain is gone by now, and a quota may be used up before the disk is.
    return AgentError("disk", f"too little space below {folder}: {free // 1048576} MiB free", free=free)
