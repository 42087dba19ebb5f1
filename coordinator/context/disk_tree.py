"""The folder of a context on disk: entries by path, names in any bytes, without the files that archloom writes."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from coordinator.context.read_errors import changed, unreadable
from coordinator.errors import UsageError


class DiskTree:
    """Entries below `root`, by their paths relative to it; the root's own is "". No symbolic link is followed.

    Bytes of names that are not UTF-8 are surrogates (`surrogateescape`). What `own` names is as if it did not exist.
    """

    def __init__(self, root: Path, own: Collection[Path] = ()) -> None:
        self.root = root
        # Rules for own files compare real paths; a context is often given as '.' or through a link.
        self._real = os.path.realpath(os.fsencode(root))
        self._below = self._real.rstrip(b"/") + b"/"
        self._own = frozenset(filter(None, (self._relative(path) for path in own)))
        self._statuses: dict[str, os.stat_result | None] = {}
        # The folders that were refused, by path, and the files that a reader adds; with the system's reason.
        self.unreadable: dict[str, str] = {}

    def check_root(self) -> None:
        """Raise UsageError where the root is no folder."""
        try:
            status = self.root.stat()
        except OSError as error:
            hint = "give the folder to build from, often '.'"
            raise UsageError(f"there is no context folder {self.root}: {error.strerror}", hint=hint) from error
        if not stat.S_ISDIR(status.st_mode):
            raise UsageError(
                f"the context {self.root} is a file", hint="give the folder that holds it, and the Dockerfile with -f"
            )

    def on_disk(self, path: str) -> bytes:
        """Return the absolute path of an entry as bytes, independent of the locale."""
        return self._below + encoded(path) if path else self._real

    def is_own(self, path: str) -> bool:
        """Return whether archloom itself writes this entry, or it is below one that archloom writes."""
        return any(path == own or path.startswith(f"{own}/") for own in self._own)

    def status(self, path: str) -> os.stat_result | None:
        """Return the status of an entry as it was at the first call, None where it does not exist.

        Raises UsageError where its folder cannot be entered.
        """
        if path not in self._statuses:
            self._statuses[path] = None if self.is_own(path) else self._lstat(path)
        return self._statuses[path]

    def entries(self, folder: str) -> Iterator[tuple[str, os.stat_result]]:
        """Yield path and status of each entry of a folder. An entry that is gone by then is not yielded.

        Raises UsageError where the folder cannot be listed, and nothing where it is gone.
        """
        prefix = f"{folder}/" if folder else ""
        try:
            with os.scandir(self.on_disk(folder)) as listing:
                for item in listing:
                    path = prefix + decoded(item.name)
                    if not (self._own and self.is_own(path)):
                        try:
                            yield path, item.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
        except (FileNotFoundError, NotADirectoryError):
            return
        except PermissionError as error:
            raise self._refused(folder, error) from error
        except OSError as error:
            raise changed(folder or ".") from error

    def target(self, path: str) -> str:
        """Return where a symbolic link points to. Raises UsageError where it is none any more."""
        try:
            return decoded(os.readlink(self.on_disk(path)))  # noqa: PTH115 - bytes
        except OSError as error:
            raise changed(path) from error

    def _lstat(self, path: str) -> os.stat_result | None:
        try:
            return os.lstat(self.on_disk(path))
        except PermissionError as error:
            raise self._refused(parent(path), error) from error
        except (OSError, ValueError):  # also a name that is too long, or has a NUL: there is no such entry
            return None

    def _refused(self, folder: str, error: OSError) -> UsageError:
        self.unreadable[folder or "."] = error.strerror or str(error)
        return unreadable(folder or ".", error)

    def _relative(self, path: Path) -> str:
        real = os.path.realpath(os.fsencode(path))
        return decoded(real.removeprefix(self._below)) if real.startswith(self._below) else ""


def encoded(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def decoded(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def parent(path: str) -> str:
    return path.rpartition("/")[0]


def parents(path: str) -> Iterator[str]:
    """Yield the folders above a path, the nearest first, without the root."""
    while path := parent(path):
        yield path
