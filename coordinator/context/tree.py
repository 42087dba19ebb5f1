"""Scan a folder on the coordinator as a build context: its entries that are sent, with the digest of every file."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.domain.dockerfile.dockerignore import Matcher, Verdict
from coordinator.domain.inputs.build_id import ContextEntry, EntryKind
from coordinator.errors import UsageError

BUFFER = 1024 * 1024
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextManifest:
    """A context at the time of its scan. `entries` are sorted by path, so a folder comes before its content.

    `skipped` are the paths of sockets, pipes and devices, which are not sent.
    """

    root: Path
    entries: tuple[ContextEntry, ...] = field(repr=False)
    skipped: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.entries)


async def scan(root: Path, ignore: Matcher) -> ContextManifest:
    """Return everything below `root` that is not ignored. Reads in a thread, with one buffer of 1 MiB.

    Raises UsageError where the root is no folder, an entry cannot be read, or an entry changes during the scan.
    """
    stop = threading.Event()
    try:
        return await asyncio.to_thread(_scan, root, ignore, stop)
    finally:
        # A thread cannot be cancelled; it checks this event between two buffers.
        stop.set()


def entry_path(root: Path, path: str) -> bytes:
    """Return the path of an entry on disk as bytes, independent of the locale."""
    return os.path.join(os.fsencode(root), path.encode("utf-8", "surrogateescape"))  # noqa: PTH118 - bytes


def open_unchanged(root: Path, entry: ContextEntry) -> int:
    """Open the file of this entry and return its descriptor. Raises UsageError where the file has changed."""
    try:
        descriptor = os.open(entry_path(root, entry.path), _OPEN_FLAGS)
    except PermissionError as error:
        raise unreadable(entry.path, error) from error
    except OSError as error:
        raise changed(entry.path) from error
    if not is_unchanged(descriptor, entry):
        os.close(descriptor)
        raise changed(entry.path)
    return descriptor


def is_unchanged(descriptor: int, entry: ContextEntry) -> bool:
    status = os.fstat(descriptor)
    return stat.S_ISREG(status.st_mode) and (status.st_size, status.st_mtime_ns) == (entry.size, entry.mtime_ns)


def changed(path: str) -> UsageError:
    return UsageError(
        f"{_shown(path)} changed while the context was read",
        hint="run again when nothing writes there, or name it in .dockerignore",
        code="context_changed",
    )


def unreadable(path: str, error: OSError) -> UsageError:
    hint = f"make it readable (chmod u+r), or leave it out: echo '{_shown(path)}' >> .dockerignore"
    return UsageError(f"cannot read {_shown(path)} in the context: {error.strerror}", hint=hint, code="context")


def _shown(path: str) -> str:
    return path if path.isprintable() else ascii(path)


def _scan(root: Path, ignore: Matcher, stop: threading.Event) -> ContextManifest:
    _check_root(root)
    included: dict[str, ContextEntry] = {}
    ignored_folders: dict[str, ContextEntry] = {}
    skipped = []
    for entry, path, ignored in _walk(root, ignore):
        if stop.is_set():
            break
        if entry is None:
            skipped.append(path)
        else:
            (ignored_folders if ignored else included)[path] = entry
    # An ignored folder is sent where an entry below it is sent.
    for path in list(included):
        parent = path.rpartition("/")[0]
        while parent in ignored_folders:
            included[parent] = ignored_folders.pop(parent)
            parent = parent.rpartition("/")[0]
    buffer = memoryview(bytearray(BUFFER))
    entries = tuple(_digested(root, included[path], buffer, stop) for path in sorted(included))
    return ContextManifest(root=root, entries=entries, skipped=tuple(sorted(skipped)))


def _check_root(root: Path) -> None:
    try:
        status = root.stat()
    except OSError as error:
        hint = "give the folder to build from, often '.'"
        raise UsageError(f"there is no context folder {root}: {error.strerror}", hint=hint) from error
    if not stat.S_ISDIR(status.st_mode):
        raise UsageError(
            f"the context {root} is a file", hint="give the folder that holds it, and the Dockerfile with -f"
        )


def _walk(root: Path, ignore: Matcher) -> Iterator[tuple[ContextEntry | None, str, bool]]:
    """Yield each entry without its digest, its path, and whether it is ignored. `None` replaces an unsendable entry.

    An ignored folder is yielded only where an entry below it may be re-included; other ignored paths are not yielded.
    """
    folders: list[tuple[str, Verdict | None]] = [("", None)]
    while folders:
        folder, above = folders.pop()
        for name, status in _listed(root, folder):
            path = f"{folder}/{name}" if folder else name
            verdict = ignore.verdict(path, above)
            is_folder = stat.S_ISDIR(status.st_mode)
            if verdict.ignored and not (is_folder and ignore.may_reinclude(path)):
                continue
            if is_folder:
                folders.append((path, verdict))
            yield _entry(root, path, status), path, verdict.ignored


def _listed(root: Path, folder: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        with os.scandir(entry_path(root, folder)) as listing:
            for item in listing:
                yield item.name.decode("utf-8", "surrogateescape"), item.stat(follow_symlinks=False)
    except PermissionError as error:
        raise unreadable(folder or ".", error) from error
    except OSError as error:
        raise changed(folder or ".") from error


def _entry(root: Path, path: str, status: os.stat_result) -> ContextEntry | None:
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        return ContextEntry(path=path, kind=EntryKind.DIRECTORY, mode=mode, mtime_ns=status.st_mtime_ns)
    if stat.S_ISREG(status.st_mode):
        return ContextEntry(path=path, kind=EntryKind.FILE, mode=mode, size=status.st_size, mtime_ns=status.st_mtime_ns)
    if stat.S_ISLNK(status.st_mode):
        try:
            link = os.readlink(entry_path(root, path))  # noqa: PTH115 - bytes
        except OSError as error:
            raise changed(path) from error
        target = link.decode("utf-8", "surrogateescape")
        return ContextEntry(path=path, kind=EntryKind.SYMLINK, mode=0o777, mtime_ns=status.st_mtime_ns, link=target)
    return None


def _digested(root: Path, entry: ContextEntry, buffer: memoryview, stop: threading.Event) -> ContextEntry:
    if entry.kind is not EntryKind.FILE:
        return entry
    digest = hashlib.sha256()
    size = 0
    with os.fdopen(open_unchanged(root, entry), "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            if stop.is_set():
                break
            digest.update(buffer[:count])
            size += count
        if size != entry.size or not is_unchanged(file.fileno(), entry):
            raise changed(entry.path)
    return ContextEntry(
        path=entry.path,
        kind=entry.kind,
        mode=entry.mode,
        size=size,
        mtime_ns=entry.mtime_ns,
        digest=digest.hexdigest(),
    )
