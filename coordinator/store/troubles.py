"""What SQLite and the file system say when a store cannot be used, translated into what a person can do about it.

The `code` of each error tells the causes apart: `readonly`, `corrupt`, `disk`, `locked`, `future`.
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from coordinator.errors import ArchloomError, LostError, UsageError

_ELSEWHERE = "give another state folder with XDG_STATE_HOME"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def translated(path: Path | None) -> Iterator[None]:
    """Raises what the block raises of SQLite's or the system's as an ArchloomError about the store at `path`."""
    try:
        yield
    except OSError as error:
        raise _of_folder(path, error) from error
    except sqlite3.Error as error:
        raise _of_database(path, error) from error


def from_the_future(path: Path | None, found: int, known: int) -> UsageError:
    return UsageError(
        f"{path} was written by a newer archloom (store version {found}, this one reads {known})",
        hint=f"update archloom, or {_ELSEWHERE}",
        code="future",
    )


def _of_folder(path: Path | None, error: OSError) -> ArchloomError:
    where = error.filename or path
    if error.errno in _FULL:
        return _full(path, error.strerror)
    return UsageError(f"cannot use the state folder: {where}: {error.strerror}", hint=_ELSEWHERE, code="readonly")


def _of_database(path: Path | None, error: sqlite3.Error) -> ArchloomError:
    name = error.sqlite_errorname if hasattr(error, "sqlite_errorname") else ""
    match name.split("_")[1] if name.startswith("SQLITE_") else "":
        case "FULL" | "IOERR":
            return _full(path, error)
        case "BUSY" | "LOCKED":
            return LostError(f"{path} is locked by another archloom", hint="try again in a moment", code="locked")
        case "READONLY" | "CANTOPEN" | "PERM":
            return UsageError(f"cannot write {path}: {error}", hint=_ELSEWHERE, code="readonly")
        case "CORRUPT" | "NOTADB":
            hint = f"move it away, history starts anew: mv {path} {path}.bad"
            return UsageError(f"{path} is not a readable store: {error}", hint=hint, code="corrupt")
        case _:
            return ArchloomError(f"the store {path} failed: {error}")


def _full(path: Path | None, why: object) -> LostError:
    return LostError(f"the disk with {path} is full or failing ({why})", hint="free some space", code="disk")
