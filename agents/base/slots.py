"""Slots: lock files shared by all login users of an engine. The kernel frees a slot when its holder dies.

Any user can put something else in their place: a link, a pipe, a folder, a file that others cannot open. None of these
is followed or waited for. Where a lock file is spoilt, those below the agent's own folder serve.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import re
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from agents.base.errors import AgentError
from agents.base.trees import remove

_OPEN_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PREFIX = "slot-"
_MAX_NOTE_BYTES = 4096
_MAX_HOLDER_CHARS = 200
_umask_lock = threading.Lock()


class Slot(NamedTuple):
    """A held slot. It is free again when the last copy of `fd` is closed."""

    number: int
    fd: int


def take(shared: Path, own: Path, engine_id: str, count: int, holder: str) -> Slot:
    """Take a slot of this engine for `holder`: below `shared` (`/run/lock`), else below `own`, the state folder.

    Lock files exclude only users who can open them, so those below `own` guard only against this user's other
    coordinators. Raises AgentError `busy` where all `count` slots are held.
    """
    name = folder_name(engine_id)
    with suppress(OSError):
        while shared.is_dir():
            with suppress(FileNotFoundError):  # a purge has deleted the folder meanwhile
                return _take(shared / name, count, holder, own)
    _mend(own / name, count)
    return _take(own / name, count, holder, own)


def spoilt(shared: Path, engine_id: str, count: int = 16) -> str:
    """Return the path below `shared` that keeps this user from the slots that all users share; empty where none does.

    Nothing is made: who builds here first makes the folder and the files.
    """
    folder = shared / folder_name(engine_id)
    if not os.path.lexists(folder):
        return "" if os.access(shared, os.W_OK | os.X_OK) else str(shared)
    try:
        place = _open_directory(folder)
    except OSError:
        return str(folder)
    try:
        return next((str(folder / name) for name in map(_name, range(count)) if _is_spoilt(place, name)), "")
    finally:
        os.close(place)


def _is_spoilt(place: int, name: str) -> bool:
    try:
        os.close(_open_existing(place, name))
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _take(folder: Path, count: int, holder: str, own: Path) -> Slot:
    place = _directory(folder)
    try:
        return acquire(place, count, {"holder": holder, "since": time.time(), "state": str(own)})
    finally:
        os.close(place)


def _mend(folder: Path, count: int) -> None:
    """Remove what is no lock file from a folder that only this user may write to."""
    if folder.is_symlink() or not folder.is_dir():
        remove(folder)
        return
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for name in map(_name, range(count)):
            if _is_spoilt(place, name):
                remove(folder / name)
    finally:
        os.close(place)


def folder_name(engine_id: str) -> str:
    """Return the name of the folder for this engine's lock files, below any parent."""
    return "archloom-" + re.sub(r"[^A-Za-z0-9_.-]", "-", engine_id)


def acquire(place: int, count: int, note: dict[str, object]) -> Slot:
    """Take one of the slots 0 to count-1, and write the note into its file.

    Raises AgentError `busy` with slot 0's `holder` and `since` (epoch seconds), OSError where a lock file is spoilt.
    """
    for number in range(count):
        fd = _locked(place, _name(number))
        if fd is not None:
            try:
                _note(fd, note)
            except BaseException:
                os.close(fd)
                raise
            return Slot(number, fd)
    raise _busy(place, count)


def drop(shared: Path, engine_id: str, states: Sequence[Path]) -> list[str]:
    """Delete the lock files that agents with one of these state folders took last, and the folder where it is empty.

    Return the folder where it was deleted. A file that is held stays, and so does one of another home or user.
    """
    folder = shared / folder_name(engine_id)
    try:
        place = _open_directory(folder)
    except OSError:
        return []
    try:
        for name in _listed(place):
            with suppress(OSError):  # another user's, or spoilt
                _drop(place, name, {str(state) for state in states})
    finally:
        os.close(place)
    with suppress(OSError):
        folder.rmdir()
        return [str(folder)]
    return []


def _drop(place: int, name: str, states: set[str]) -> None:
    fd = _open_existing(place, name)
    try:
        # Whoever opened the file before it is deleted finds out in `_locked`.
        if os.fstat(fd).st_uid == os.getuid() and _try_lock(fd) and _read_note(fd).get("state", "") in {"", *states}:
            os.unlink(name, dir_fd=place)
    finally:
        os.close(fd)


def holder_of(shared: Path, engine_id: str) -> str:
    """Return the path of a lock file below `shared` that somebody holds; empty where nobody does."""
    folder = shared / folder_name(engine_id)
    try:
        place = _open_directory(folder)
    except OSError:
        return ""
    try:
        return next((str(folder / name) for name in _listed(place) if _is_held(place, name)), "")
    finally:
        os.close(place)


def _listed(place: int) -> list[str]:
    return sorted(name for name in os.listdir(place) if name.startswith(_PREFIX))


def _is_held(place: int, name: str) -> bool:
    try:
        fd = _open_existing(place, name)
    except OSError:
        return False
    try:
        return not _try_lock(fd)
    finally:
        os.close(fd)


def _locked(place: int, name: str) -> int | None:
    """Open and lock a lock file; None where somebody holds it."""
    while True:
        fd = _open(place, name)
        try:
            if not _try_lock(fd):
                os.close(fd)
                return None
            if os.fstat(fd).st_nlink:
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # a purge has deleted the file meanwhile


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_note(fd: int) -> dict[str, Any]:
    """Return what the last holder has written; empty where it is no note: any user can write to the file."""
    try:
        note = json.loads(os.pread(fd, _MAX_NOTE_BYTES, 0).partition(b"\n")[0])
    except (ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) else {}


def _busy(place: int, count: int) -> AgentError:
    fd = _open(place, _name(0))
    try:
        note = _read_note(fd)
    finally:
        os.close(fd)
    try:
        holder, since = _printable(str(note["holder"])), float(note["since"])
    except (ValueError, KeyError, TypeError, OverflowError):
        # The holder has taken the lock but not written its note yet, or is a program that writes no notes.
        holder, since = "", 0.0
    if not math.isfinite(since):
        since = 0.0
    held = "slot 0 is held" if count == 1 else f"slots 0 to {count - 1} are held"
    return AgentError("busy", held, holder=holder, since=since)


def _printable(text: str) -> str:
    """Any user can write a note."""
    return "".join(char if char.isprintable() else "?" for char in text[:_MAX_HOLDER_CHARS])


def _name(number: int) -> str:
    return f"{_PREFIX}{number}"


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
    return _open_directory(path)


def _open_directory(path: Path) -> int:
    place = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if os.access(".", os.W_OK | os.X_OK, dir_fd=place):
        return place
    os.close(place)
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _open(place: int, name: str) -> int:
    while True:
        try:
            # Try without O_CREAT: fs.protected_regular (Linux 4.19, proc(5)) refuses it for other users' files in a
            # sticky directory.
            return _open_existing(place, name)
        except FileNotFoundError:
            pass
        try:
            with _open_to_all():
                return os.open(name, _OPEN_FLAGS | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=place)
        except FileExistsError:
            continue


def _open_existing(place: int, name: str) -> int:
    """Open a lock file. Raises OSError for what is none: a second name of a file would let its content be changed."""
    fd = os.open(name, _OPEN_FLAGS, dir_fd=place)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(fd)
        raise PermissionError(errno.EPERM, "not a lock file", name)
    return fd


@contextmanager
def _open_to_all() -> Iterator[None]:
    # The umask applies to all threads. Files that other threads create meanwhile lie below a 0700 folder.
    with _umask_lock:
        before = os.umask(0)
        try:
            yield
        finally:
            os.umask(before)
