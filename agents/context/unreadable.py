"""What the login of this host could not open of a context, once it has the modes it comes with.

A coordinator that is root sends files that an ordinary login may not read. BuildKit's client sends nothing for such a
file, and the image has an empty one (https://github.com/docker/buildx/issues/1781). It is refused before it is sent.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from agents.base import login
from agents.base.errors import AgentError
from agents.context.tree_objects import Below, File

_READ, _READ_AND_ENTER = 0o400, 0o500
_NAMED = 5


def is_closed(entry: File | Below) -> bool:
    """Whether its mode keeps its owner from opening it. All of a context is the login's own here."""
    needed = _READ_AND_ENTER if isinstance(entry, Below) else _READ
    return entry.mode & needed != needed


def binds(folder: Path) -> bool:
    """Whether modes keep us from our own files on the disk of this folder: root they do not, as a rule."""
    with tempfile.NamedTemporaryFile(dir=folder) as tried:
        os.fchmod(tried.fileno(), 0)
        try:
            os.close(os.open(tried.name, os.O_RDONLY))
        except PermissionError:
            return True
        return False


def refusal(entries: Sequence[tuple[bytes, int]]) -> AgentError:
    """Names the first of these paths with their modes, and the cure."""
    named = [f"'{path.decode('utf-8', 'replace')}' (mode {mode:04o})" for path, mode in entries[:_NAMED]]
    others = f" and {len(entries) - _NAMED} more" if len(entries) > _NAMED else ""
    return AgentError(
        "unreadable",
        f"{', '.join(named)}{others} of the context cannot be opened by {login.user()}, the login there, and would "
        "reach the build empty. Where you build, chmod u+r it (u+rx a folder) or name it in .dockerignore, and build "
        "again; or let root log in there",
    )
