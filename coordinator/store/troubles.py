"""Translate errors of SQLite and of the file system to ArchloomErrors with a hint for the user."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from coordinator.domain.full_disk import room_hint, too_little_space
from coordinator.domain.visible import file_word
from coordinator.errors import ArchloomError, LostError, UsageError

# The codes of errors with which a file cannot be changed, but can be read.
LOSABLE = frozenset({"readonly", "disk", "locked"})
# The codes of errors with which a command can continue if it needs nothing from the file. A store of a newer archloom
# (`future`) and a folder that other machines write too (`shared`) are not among them: these the user has to solve.
DISPENSABLE = LOSABLE | {"corrupt"}
_OTHER_FOLDER = "give another state folder with XDG_STATE_HOME"
# SQLite maps its index of the journal in pieces of 32 KiB (https://www.sqlite.org/walformat.html).
_LEAST_ROOM_BYTES = 65536
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def translated(path: Path | None) -> Iterator[None]:
    """Raise errors of SQLite and of the file system in the block as an ArchloomError about the store at `path`."""
    try:
        yield
    except OSError as error:
        raise _of_folder(path, error) from error
    except sqlite3.Error as error:
        raise explained(path, error) from error


@contextlib.contextmanager
def foreign(path: Path | None) -> Iterator[None]:
    """Raise UsageError `corrupt` where a statement does not fit the tables of a file that is being opened.

    Another program wrote that file. Once a file is open, a statement that does not fit is a bug in archloom.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname != "SQLITE_ERROR":
            raise
        raise damaged(path, error) from error


def from_the_future(path: Path | None, found: int, known: int) -> UsageError:
    return UsageError(
        f"{path} was written by a newer archloom (store version {found}, this one reads {known})",
        hint=f"update archloom, or {_OTHER_FOLDER}",
        code="future",
    )


def shared_by_machines(path: Path, kind: str) -> UsageError:
    return UsageError(
        f"the state folder {path.parent} is on {kind}, which other machines may mount too: SQLite is not safe there",
        hint="give a folder on a disk of this machine with XDG_STATE_HOME",
        code="shared",
    )


def damaged(path: Path | None, why: object) -> UsageError:
    return UsageError(f"{path} is not a readable store: {why}", hint=_put_away(path), code="corrupt")


def explained(path: Path | None, error: sqlite3.Error) -> ArchloomError:
    """Return the error of SQLite as an ArchloomError with a hint."""
    name = error.sqlite_errorname if hasattr(error, "sqlite_errorname") else ""
    match name.split("_")[1] if name.startswith("SQLITE_") else "":
        case "FULL":
            return _full(path, str(error))
        case "IOERR" if _has_no_room(path):
            return _full(path, str(error))
        case "IOERR":
            message = f"the disk with {path} is full or failing ({error})"
            return LostError(message, hint=_room_hint(path), code="disk")
        case "BUSY" | "LOCKED":
            hint = f"try again when it is done; to find it: fuser -v {file_word(path)}"
            return LostError(f"{path} is locked by another program", hint=hint, code="locked")
        case "READONLY" | "CANTOPEN" | "PERM":
            return UsageError(f"cannot write {path}: {error}", hint=_OTHER_FOLDER, code="readonly")
        case "CORRUPT" | "NOTADB":
            return damaged(path, error)
        case _:
            return ArchloomError(f"the store {path} failed: {error}")


def _of_folder(path: Path | None, error: OSError) -> ArchloomError:
    if error.errno in _DISK_FULL:
        return _full(path, error.strerror or "")
    hint, folder = _OTHER_FOLDER, path.parent if path else ""
    if isinstance(error, PermissionError):
        hint = f'make it yours: sudo chown -R "$USER" {file_word(folder)}; or {_OTHER_FOLDER}'
    return UsageError(f"cannot use the state folder {folder}: {error.strerror}", hint=hint, code="readonly")


def _full(path: Path | None, why: str) -> LostError:
    place = path.parent if path else "the system's folder for temporary files"
    return LostError(too_little_space(place, _free(path), why), hint=_room_hint(path), code="disk")


def _has_no_room(path: Path | None) -> bool:
    """Return whether the disk of the file is full: SQLite has an I/O error of it where a shared mapping cannot grow."""
    free = _free(path)
    return free is not None and free < _LEAST_ROOM_BYTES


def _free(path: Path | None) -> int | None:
    try:
        status = os.statvfs(path.parent if path else "/")
    except OSError:
        return None
    return status.f_bavail * status.f_frsize


def _room_hint(path: Path | None) -> str:
    return "make room" if path is None else room_hint(path.parent)


def _put_away(path: Path | None) -> str:
    """Return the hint to move the file away with its journal: SQLite would apply the journal to a new file."""
    if path is None:
        return ""
    folder = path.parent / "bad"
    move = f"mkdir -p {file_word(folder)} && mv {file_word(path)}* {file_word(folder)}"
    return f"put it away, and a new history starts: {move}"
