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
    if isinstance(error, OSError) and error.errno in _FULL:
        return _full(folder)
    return AgentError("internal", f"{type(error).__name__}: {error}")


def _full(folder: Path) -> AgentError:
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    resource = "file names (inodes)" if status.f_files and not status.f_favail else "space"
    return AgentError("disk", f"no {resource} left below {folder}: {free // 1048576} MiB free", free=free)
