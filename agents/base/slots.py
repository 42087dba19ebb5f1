"""Slots: lock files where all login users of an engine meet. The kernel frees them when the holder dies."""

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

_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST_NOTE = 4096
_umask_lock = threading.Lock()


class Slot(NamedTuple):
    """A held slot: it is free again when the last copy of `fd` is closed."""

    number: int
    fd: int


def take(shared: Path, own: Path, engine_id: str, count: int, holder: str) -> Slot:
    """A slot of this engine, from now on held by `holder`. Raises AgentError `busy`."""
    place = meeting_place(shared, own, engine_id)
    try:
        return acquire(place, count, holder, time.time())
    finally:
        os.close(place)


def meeting_place(shared: Path, own: Path, engine_id: str) -> int:
    """An open directory for the lock files of this engine: below `shared` (`/run/lock`), else below `own`.

    Only what every user of the engine can use is worth anything as a meeting place, so `own` guards against this
    user's other coordinators alone.
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
    """What the folder of this engine's lock files is called, wherever it lies."""
    return "archloom-" + re.sub(r"[^A-Za-z0-9_.-]", "-", engine_id)


def acquire(place: int, count: int, holder: str, since: float) -> Slot:
    """One of the slots 0 … count-1. Raises AgentError `busy` with the holder of the first one, and since when."""
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
        line = os.pread(fd, _LONGEST_NOTE, 0).partition(b"\n")[0]
    finally:
        os.close(fd)
    try:
        note = json.loads(line)
        holder, since = str(note["holder"]), float(note["since"])
    except (ValueError, KeyError, TypeError):
        # Its holder is between taking the lock and writing, or it is somebody who does not write notes.
        holder, since = "", 0.0
    what = "slot 0 is held" if count == 1 else f"slots 0 to {count - 1} are held"
    return AgentError("busy", what, holder=holder, since=since)


def _note(fd: int, note: dict[str, object]) -> None:
    line = json.dumps(note).encode()[: _LONGEST_NOTE - 1] + b"\n"
    # Written before the rest is cut off, so that a reader finds a whole first line at any time.
    os.pwrite(fd, line, 0)
    os.ftruncate(fd, len(line))


def _directory(path: Path) -> int:
    # Sticky like /tmp: anybody may add a slot, nobody may take away another's.
    with _open_to_all():
        try:
            path.mkdir(mode=0o1777)
        except FileExistsError:
            pass
        else:
            path.chmod(0o1777)  # mkdir(2) may drop the sticky bit
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _open(place: int, name: str) -> int:
    while True:
        try:
            # Without O_CREAT first: fs.protected_regular refuses it for files of other users in a sticky directory.
            return os.open(name, _OPEN, dir_fd=place)
        except FileNotFoundError:
            pass
        try:
            with _open_to_all():
                return os.open(name, _OPEN | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=place)
        except FileExistsError:
            continue


@contextmanager
def _open_to_all() -> Iterator[None]:
    # The umask is the whole process's; what else is created meanwhile lies below a 0700 folder.
    with _umask_lock:
        before = os.umask(0)
        try:
            yield
        finally:
            os.umask(before)
