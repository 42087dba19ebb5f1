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

# Longer than a small board takes to remove an image. What holds a lock longer, hangs: an engine or a disk. Less than
# the 20 s for which the coordinator waits for most answers: it is to get this one.
_PATIENCE_S = 15.0
# The lock of the object store is held for microseconds, and taken once per object.
_FIRST_POLL_S, _LAST_POLL_S = 0.0005, 0.02


@contextmanager
def locked(folder: Path, name: str = "lock", patience: float = _PATIENCE_S) -> Iterator[None]:
    """Hold the lock `name` of this folder, exclusive among threads and processes. Not reentrant.

    Raises AgentError `busy` where it is not free after `patience` seconds.
    """
    lock = files.open_lock(folder / name)
    try:
        acquire(lock, folder / name, patience)
        yield
    finally:
        os.close(lock)


def acquire(lock: int, path: Path, patience: float = _PATIENCE_S) -> None:
    """Lock an open file, exclusively, until it is closed or unlocked. Raises AgentError `busy` as `locked` does."""
    until, pause = time.monotonic() + patience, _FIRST_POLL_S
    while not try_lock(lock):
        if time.monotonic() > until:
            message = f"another process of archloom on this host has held {path} for {patience:.0f} s"
            raise AgentError("busy", message, holder="", since=0.0)
        time.sleep(pause)
        pause = min(2 * pause, _LAST_POLL_S)


def try_lock(lock: int) -> bool:
    """Lock an open file, exclusively, without waiting; return whether it is locked."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
