"""The bulk channel: a job's context from stdin into its folder, whole or not at all."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path
from typing import BinaryIO

from agents import process
from agents.errors import AgentError
from agents.jobs import CONTEXT, remove_tree
from agents.unpack import Received, unpack

_PARTIAL = "context.partial"
_OLD = "context.old"
_DRAIN = 65536


def receive(folder: Path, stream: BinaryIO) -> Received:
    """Unpack the archive and make it the job's context, in place of an earlier one.

    A transfer that breaks leaves no context and no rest. Raises AgentError `started` where the job already builds
    from its context, `receiving` while another transfer goes on, and what `unpack` raises.
    """
    with (folder / "context.lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
            raise AgentError("receiving", "another transfer of this context is under way") from error
        if process.read(folder) is not None:
            raise AgentError("started", f"job '{folder.name}' was started with the context it has")
        return _replace(folder, stream)


def _replace(folder: Path, stream: BinaryIO) -> Received:
    partial, context, old = (folder / name for name in (_PARTIAL, CONTEXT, _OLD))
    for left in (partial, old):
        if left.exists():
            remove_tree(left)
    partial.mkdir(mode=0o700)
    try:
        received = unpack(stream, partial)
    except BaseException:
        remove_tree(partial)
        raise
    # What follows the archive is padding; read, so that the sender's last write does not fail.
    while stream.read(_DRAIN):
        pass
    if context.exists():
        context.rename(old)
    partial.rename(context)
    if old.exists():
        remove_tree(old)
    return received
