"""What to say of an exception: a full disk is told apart from everything else nobody expected."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from agents.base.errors import AgentError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def explain(error: Exception, folder: Path) -> AgentError:
    """The AgentError that says this: itself, `disk` with the bytes free below `folder`, or `internal`."""
    if isinstance(error, AgentError):
        return error
    if isinstance(error, OSError) and error.errno in _FULL:
        return _full(folder)
    return AgentError("internal", f"{type(error).__name__}: {error}")


def _full(folder: Path) -> AgentError:
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    what = "file names (inodes)" if status.f_files and not status.f_favail else "space"
    return AgentError("disk", f"no {what} left below {folder}: {free // 1048576} MiB free", free=free)
