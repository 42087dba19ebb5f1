"""Contexts with entries whose modes keep this host's login user from opening them.

A coordinator that runs as root sends files that an ordinary login may not read. BuildKit's client sends no content for
an unreadable file, and the image gets an empty one (https://github.com/docker/buildx/issues/1781). So the agent chooses
a way to read such a context, or refuses it before its files are sent.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from agents.base import login
from agents.base.errors import AgentError
from agents.context.tree_objects import Below, File
from agents.job import spec
from agents.job.closed_context import Access

_READ, _READ_AND_ENTER = 0o400, 0o500
_MAX_NAMED = 5


def is_closed(entry: File | Below) -> bool:
    """Whether the mode keeps the owner from opening the entry. The login user owns every entry of a context."""
    needed = _READ_AND_ENTER if isinstance(entry, Below) else _READ
    return entry.mode & needed != needed


def access(job: Path, closed: Sequence[tuple[bytes, int]]) -> Access | None:
    """Return how the build of this job folder reads a context with these closed entries, by path and mode.

    None where modes do not keep this user from its files. Raises AgentError `unreadable` where there is no exact way.
    """
    if not closed or not _binds(job):
        return None
    from agents.base import user_namespace  # few contexts need it, and it imports subprocess

    wanted = spec.read(job)
    if wanted.engine == "api":
        return Access.ARCHIVE
    if user_namespace.opens_closed(job):
        return Access.NAMESPACE
    if not wanted.dockerfile_apart:
        return Access.ARCHIVE
    raise _refusal(closed)


def _binds(folder: Path) -> bool:
    """Whether modes keep this user from its own files on the disk of `folder`. As a rule they do not restrict root."""
    import tempfile  # an agent that has no use for it starts without

    with tempfile.NamedTemporaryFile(dir=folder) as file:
        os.fchmod(file.fileno(), 0)
        try:
            os.close(os.open(file.name, os.O_RDONLY))
        except PermissionError:
            return True
        return False


def _refusal(entries: Sequence[tuple[bytes, int]]) -> AgentError:
    """Return AgentError `unreadable` that names the first five of these paths with their modes, and the remedy."""
    named = [f"'{path.decode('utf-8', 'replace')}' (mode {mode:04o})" for path, mode in entries[:_MAX_NAMED]]
    others = f" and {len(entries) - _MAX_NAMED} more" if len(entries) > _MAX_NAMED else ""
    return AgentError(
        "unreadable",
        f"{', '.join(named)}{others} of the context cannot be opened by {login.user()}, the login there, and would "
        "be empty in the build. On your machine, chmod u+r it (u+rx a folder) or name it in .dockerignore, and build "
        "again; or log in there as root, or allow user namespaces there",
    )
