"""Receive a job's context from the bulk channel into the job's folder, completely or not at all."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path
from typing import BinaryIO

from agents.base import process
from agents.base.errors import AgentError
from agents.context import unreadable
from agents.context.cache import Objects
from agents.context.transfer import Received, Say, transfer
from agents.job import closed_context
from agents.job.closed_context import Access
from agents.job.store import CONTEXT, mark_arrived, remove_tree

_PARTIAL = "context.partial"
_OLD = "context.old"


def receive(folder: Path, stream: BinaryIO, say: Say, objects: Objects) -> Received:
    """Receive the offered context and make it the job's context, in place of an earlier one.

    A transfer that breaks leaves no partial context; objects received completely stay in the object store. Raises
    AgentError `started` where the job was already started with its context, `receiving` while another transfer of
    this context runs, `unreadable` where the build could not read it, and what `transfer` raises.
    """
    with (folder / "context.lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
            raise AgentError("receiving", "another transfer of this context is under way") from error
        if process.read(folder) is not None:
            raise AgentError("started", f"job '{folder.name}' has already been started with its context")
        return _replace(folder, stream, say, objects)


def _replace(folder: Path, stream: BinaryIO, say: Say, objects: Objects) -> Received:
    partial, context, old = (folder / name for name in (_PARTIAL, CONTEXT, _OLD))
    for leftover in (partial, old):
        if leftover.exists():
            remove_tree(leftover)
    partial.mkdir(mode=0o700)
    access: list[Access | None] = []
    try:
        received = transfer(
            stream, say, objects, partial, lambda closed: access.append(unreadable.access(folder, closed))
        )
    except BaseException:
        remove_tree(partial)
        raise
    closed_context.write(folder, access[0])
    mark_arrived(folder)
    if context.exists():
        context.rename(old)
    partial.rename(context)
    if old.exists():
        remove_tree(old)
    return received
