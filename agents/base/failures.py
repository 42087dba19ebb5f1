"""Convert an exception to an AgentError: full and read-only disks have codes, other unexpected ones are `internal`."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from agents.base.disk import room_for, shortage_text
from agents.base.errors import AgentError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def explain(error: Exception, folder: Path) -> AgentError:
    """Return the AgentError for an exception: itself, `disk`, `read_only` or `internal`.

    Never raises: a request gets an answer. `folder` is where the caller writes to, for an error that names no path.
    """
    if isinstance(error, AgentError):
        return error
    if isinstance(error, OSError) and means_full_disk(error):
        return full_disk(error, folder)
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return AgentError("read_only", f"the file system of {_folder_of(error) or folder} is read-only")
    return AgentError("internal", f"{type(error).__name__}: {error}")


def means_full_disk(error: OSError) -> bool:
    """Return whether a full disk, or a quota that is used up, caused this error."""
    return error.errno in _FULL


def full_disk(error: OSError, folder: Path) -> AgentError:
    """Return the AgentError `disk` with the bytes free where the error happened: below `folder` if it has no path."""
    room = room_for(_folder_of(error) or str(folder))
    if room is None:
        return AgentError("disk", str(error), free=0)
    # A quota says nothing of the disk, which may have much room.
    quota = f" ({error.strerror})" if error.errno == errno.EDQUOT else ""
    return AgentError("disk", shortage_text(room) + quota, free=room.bytes)


def _folder_of(error: OSError) -> str:
    """Return the folder of the file that the error names; empty where it names none, or only the last name of one."""
    name = error.filename
    path = os.fsdecode(name) if isinstance(name, (str, bytes)) else ""
    return os.path.dirname(path) if path.startswith("/") else ""  # noqa: PTH120 - may be any text
