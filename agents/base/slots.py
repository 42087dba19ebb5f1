"""Slots: lock files shared by all login users of an engine. The kernel frees a slot when its holder dies."""

from __future__ import annotations

import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from agents.base.errors import AgentError

_OPEN_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_NOTE_BYTES = 4096
_umask_lock = threading.Lock()


class Slot(NamedTuple):
    """A held slot. It is free again when the last copy of `fd` is closed."""

    number: int
    fd: int


def take(shared: Path, own: Path, engine_id: str, count: int, holder: str) -> Slot:
    """Take a slot of this engine for `holder`. Raises AgentError `busy` where all `count` slots are held."""
    place = lock_folder(shared, own, engine_id)
    try:
        return acquire(place, count, holder, time.time())
    finally:
        os.close(place)


def lock_folder(shared: Path, own: Path, engine_id: str) -> int:
    """Open the directory for the lock files of this engine: below `shared` (`/run/lock`), else below `own`.

    Lock files exclude only users who can open them, so those below `own` guard only against this user's other
    coordinators.
    """
    name = folder_name(engine_id)
    try:
        place = _directory(shared / name)
        if os.access(shared / name, os.W_OK | os.X_OK):
            return place
        os.close(place)
    except OSError:
        pass
    return _directory(own / name)


def folder_name(engine_id: str) -> str:
    """Return the name of the folder for this engine's lock files, below any parent."""
    return "archloom-" + re.sub(r"[^A-Za-z0-9_.-]", "-", engine_id)


def acquire(place: int, count: int, holder: str, since: float) -> Slot:
    """Take one of the slots 0 to count-1.

    Raises AgentError `busy` with slot 0's `holder` and `since` (epoch seconds).
    """
    for number in range(count):
        fd = _open(place, f"slot-{number}")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _note(fd, {"holder": holder, "since": since})
        except BlockingIOError:
            os.close(fd)
        except BaseException:
            os.close(fd)
            raise
        else:
            return Slot(number, fd)
    raise _busy(place, count)


def _busy(place: int, count: int) -> AgentError:
    fd = _open(place, "slot-0")
    try:
        line = os.pread(fd, _MAX_NOTE_BYTES, 0).partition(b"\n")[0]
    finally:
        os.close(fd)
    try:
        note = json.loads(line)
        holder, since = str(note["holder"]), float(note["since"])
    except (ValueError, KeyError, TypeError):
        # The holder has taken the lock but not written its note yet, or is a program that writes no notes.
        holder, since = "", 0.0
    held = "slot 0 is held" if count == 1 else f"slots 0 to {count - 1} are held"
    return AgentError("busy", held, holder=holder, since=since)


def _note(fd: int, note: dict[str, object]) -> None:
    line = json.dumps(note).encode()[: _MAX_NOTE_BYTES - 1] + b"\n"
    # Write before truncating, so that a reader finds a complete first line at any time.
    os.pwrite(fd, line, 0)
    os.ftruncate(fd, len(line))


def _directory(path: Path) -> int:
    # Sticky like /tmp: every user may add a slot, and no user may remove another user's.
    with _open_to_all():
        try:
            path.mkdir(mode=0o1777)
        except FileExistsError:
            pass
        else:
            path.chmod(0o1777)  # POSIX leaves it to the system whether mkdir sets more than the permission bits
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _open(place: int, name: str) -> int:
    while True:
        try:
            # Try without O_CREAT: fs.protected_regular (Linux 4.19, proc(5)) refuses it for other users' files in a
            # sticky directory.
            return os.open(name, _OPEN_FLAGS, dir_fd=place)
        except FileNotFoundError:
            pass
        try:
            with _open_to_all():
                return os.open(name, _OPEN_FLAGS | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=place)
        except FileExistsError:
            continue


@contextmanager
def _open_to_all() -> Iterator[None]:
    # The umask applies to all threads. Files that other threads create meanwhile lie below a 0700 folder.
    with _umask_lock:
        before = os.umask(0)
        try:
            yield
        finally:
            os.umask(before)
