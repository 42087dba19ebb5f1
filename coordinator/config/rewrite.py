"""Choose the inventory file to write, and replace it atomically, under a lock against concurrent edits."""

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
from coordinator.regular_files import check_file, read_file


def place(explicit: str | None, environ: Mapping[str, str], cwd: Path, home: Path) -> Path:
    """Return the file for a new entry: the file that commands read, else the named file, else the user's own."""
    named = explicit or environ.get(VARIABLE)
    if named:
        path = home / named[2:] if named.startswith("~/") else cwd / named
        if not path.exists() and path.parent.is_dir():
            return path
    existing = find(explicit, environ, cwd, home)
    if existing is not None:
        return existing
    config = environ.get("XDG_CONFIG_HOME", "")
    return (Path(config) if config.startswith("/") else home / ".config") / "archloom" / FILE_NAME


def read_text(path: Path) -> str:
    """Return the file's text with its byte order mark and line endings; empty without a file. Raises UsageError."""
    if not path.exists():
        return ""
    yaml_source.read(path, label(path))  # only for its errors: the file may not be a YAML document
    return read_file(path).decode("utf-8")


def rewrite(path: Path, edit: Callable[[str], str], *, may_be_empty: bool = False) -> None:
    """Replace the file with the result of `edit`, once that is known to be a valid inventory.

    With `may_be_empty` the result may have no hosts. Raises UsageError, and then leaves the file unchanged.
    """
    # Write the target of a symbolic link, so that the link stays.
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
    if before is not None:
        # Root may replace anything in /dev.
        check_file(path, before)
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
