"""Locks of the agent's own files, which the kernel releases when their holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agents.base import files
from agents.base.errors import AgentError

# Longer than a small board takes to remove an image. What holds a lock longer, hangs: an engine or a disk.
_PATIENCE_S = 20.0
_POLL_S = 0.02


@contextmanager
def locked(folder: Path, name: str = "lock", patience: float = _PATIENCE_S) -> Iterator[None]:
    """Hold the lock `name` of this folder, exclusive among threads and processes. Not reentrant.

    Raises AgentError `busy` where it is not free after `patience` seconds.
    """
    lock = files.open_lock(folder / name)
    try:
        _acquire(lock, folder / name, patience)
        yield
    finally:
        os.close(lock)


def _acquire(lock: int, path: Path, patience: float) -> None:
    until = time.monotonic() + patience
    while not _try(lock):
        if time.monotonic() > until:
            message = f"another process of archloom on this host has held {path} for {patience:.0f} s"
            raise AgentError("busy", message, holder="", since=0.0)
        time.sleep(_POLL_S)


def _try(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
