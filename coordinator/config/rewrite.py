"""Which inventory file is written, and writing it: whole or not at all, and never over somebody else's change."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from coordinator.config import yaml_source
from coordinator.config.load import inventory
from coordinator.config.locate import FILE_NAME, VARIABLE, find, label
from coordinator.errors import UsageError


def place(explicit: str | None, environ: Mapping[str, str], cwd: Path, home: Path) -> Path:
    """The file a new entry goes into: the one commands read, else the one that is named, else the user's own."""
    named = explicit or environ.get(VARIABLE)
    if named:
        path = home / named[2:] if named.startswith("~/") else cwd / named
        if not path.exists() and path.parent.is_dir():
            return path
    found = find(explicit, environ, cwd, home)
    if found is not None:
        return found
    config = environ.get("XDG_CONFIG_HOME", "")
    return (Path(config) if config.startswith("/") else home / ".config") / "archloom" / FILE_NAME


def read_text(path: Path) -> str:
    """The file's text with its mark and line ends as they are; empty where there is no file. Raises UsageError."""
    if not path.exists():
        return ""
    yaml_source.read(path, label(path))  # says what is wrong with one that is no document
    return path.read_bytes().decode("utf-8")


def rewrite(path: Path, edit: Callable[[str], str], *, may_be_empty: bool = False) -> None:
    """Replace the file by what `edit` makes of it, once that is known to be a good inventory.

    With `may_be_empty` it may be left without hosts. Raises UsageError, and leaves the file as it was.
    """
    # A link stays a link: what it leads to is written.
    real = path.resolve()
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        with _alone(real.parent):
            text = edit(read_text(real))
            source = yaml_source.parse(text.removeprefix("\ufeff"), label(path))
            if not (may_be_empty and not any(source.members(section) for section in ("boards", "emulators"))):
                inventory(source, real)
            _replace(real, text.encode())
    except OSError as error:
        raise UsageError(f"cannot write {label(path)}: {error.strerror}", code="unwritable") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _replace(path: Path, data: bytes) -> None:
    before = path.stat() if path.exists() else None
    fd, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644 if before is None else before.st_mode & 0o7777)
            if before is not None and before.st_uid != os.geteuid():
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fsync(file.fileno())
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink()
        raise
