"""Scan a folder on the coordinator as a build context: the entries that a build takes, with the digests of files."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from os import stat_result
from pathlib import Path

from coordinator.context.disk_tree import DiskTree, joined, parents
from coordinator.context.file_content import open_file
from coordinator.context.file_digests import FileDigests, FileReading
from coordinator.context.read_errors import UNREADABLE
from coordinator.context.scan_progress import ScanProgress
from coordinator.context.selection import ENTRIES_PER_CHECK, Selection, select
from coordinator.context.source_errors import check_sources
from coordinator.context.unreadable_entries import unreadable_entries
from coordinator.domain.dockerfile.context_sources import ContextUse
from coordinator.domain.dockerfile.dockerignore import Matcher, Verdict
from coordinator.domain.inputs.build_id import ContextEntry, EntryKind
from coordinator.errors import UsageError

EVERYTHING = ContextUse(everything="the whole context is taken")
_NEUTRAL_MODE = 0o755
_NO_CONTENT = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextManifest:
    """A context at the time of its scan. `entries` are sorted by path, so a folder comes before its content.

    `skipped` are the paths of pipes and devices, which are not sent. `links_to_root` is as in `Selection`: the build
    may then take a file that is added at the root.
    """

    root: Path
    entries: tuple[ContextEntry, ...] = field(repr=False)
    skipped: tuple[str, ...] = ()
    links_to_root: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.entries)


async def scan(
    root: Path,
    ignore: Matcher,
    use: ContextUse = EVERYTHING,
    *,
    own: Collection[Path] = (),
    digests: FileDigests | None = None,
    dockerfile: str = "Dockerfile",
    home: Path | None = None,
    report: Callable[[str], None] | None = None,
) -> ContextManifest:
    """Return what `use` takes below `root` and `ignore` does not ignore. It works in a thread, with a buffer of 1 MiB.

    Folders and files that no source can reach are not listed or read. Folders whose mode does not count have the mode
    0755 and the time 0. `own` are the files and folders that archloom writes, which no context has. `digests` is for
    all scans of a run. `dockerfile` is for messages; `report` gets lines for the user on the event loop: that
    everything of a large folder or of `home` is taken, and how far the scan is.

    Raises UsageError where the root is no folder, a required source does not exist or is no file, or an entry that is
    taken cannot be read or is rewritten during the scan.
    """
    stop = threading.Event()
    loop = asyncio.get_running_loop()

    def say(line: str) -> None:
        if report is not None:
            loop.call_soon_threadsafe(report, line)

    progress = ScanProgress(root, use.everything, home, say)
    tree = DiskTree(root, own)
    one_scan = _Scan(tree, ignore, progress, stop)
    try:
        return await asyncio.to_thread(one_scan.manifest, use, digests or FileDigests(), dockerfile)
    finally:
        # A thread cannot be cancelled; it checks this event between two entries and two buffers.
        stop.set()


class StoppedError(Exception):
    """The scan was cancelled, and nobody waits for it. Not an OSError, which would be taken for one of a file."""


@dataclass(frozen=True, slots=True)
class _Visited:
    """An entry on the way. `counts` tells of a folder whether it is taken itself, and not only something below it."""

    path: str
    status: stat_result
    counts: bool


class _Scan:
    def __init__(self, tree: DiskTree, ignore: Matcher, progress: ScanProgress, stop: threading.Event) -> None:
        self._tree = tree
        self._ignore = ignore
        self._progress = progress
        self._stop = stop

    def manifest(self, use: ContextUse, digests: FileDigests, dockerfile: str) -> ContextManifest:
        self._tree.check_root()
        try:
            selection = select(self._tree, use, self._ignore, self._listed)
            taken = self._taken(selection)
        except UsageError as error:
            raise self._unreadable(use) or error from error
        skipped = {path for path, status in taken.items() if not _is_sent(status)}
        sent = {path: status for path, status in taken.items() if path not in skipped}
        check_sources(self._tree, selection, self._ignore, sent, skipped, dockerfile)
        entries, statuses = self._entries(sent, selection, digests)
        digests.save()
        refusal = self._unreadable(use)
        if refusal is not None:
            raise refusal
        return ContextManifest(
            root=self._tree.root,
            entries=_with_hard_links(entries, statuses),
            skipped=tuple(sorted(skipped)),
            links_to_root=selection.links_to_root,
        )

    def _unreadable(self, use: ContextUse) -> UsageError | None:
        """Return the error for all entries that were refused so far, None without one."""
        if not self._tree.unreadable:
            return None
        sources = [source.path for source in use.sources]
        return unreadable_entries(self._tree, self._tree.unreadable, sources, self._tree.root / self._ignore.path)

    def _taken(self, selection: Selection) -> dict[str, stat_result]:
        """Return what the selection takes and is not ignored, with the folders that lead there, by path."""
        taken: dict[str, stat_result] = {}
        folders: dict[str, stat_result] = {}
        for count, visited in enumerate(self._walk(selection)):
            (taken if visited.counts else folders)[visited.path] = visited.status
            if count % ENTRIES_PER_CHECK == 0:
                self._check_stop()
                self._progress.found(count)
        # A folder that leads to a taken entry is sent, also where it is ignored.
        for path in list(taken):
            for folder in parents(path):
                if folder not in folders:
                    break
                taken[folder] = folders.pop(folder)
        return taken

    def _walk(self, selection: Selection) -> Iterator[_Visited]:
        """Yield each entry that the selection takes or that leads there, without the ignored ones.

        An ignored folder is yielded where an entry below it may be re-included.
        """
        next_names = _next_names(selection.taken | selection.searched)
        folders: list[tuple[str, Verdict | None, bool]] = [("", None, "" in selection.taken)]
        while folders:
            folder, above, below_taken = folders.pop()
            names = next_names.get(folder, ())
            for path, status in self._all(folder, above) if below_taken else self._leading(folder, names):
                verdict = self._ignore.verdict(path, above)
                is_folder = stat.S_ISDIR(status.st_mode)
                if verdict.ignored and not (is_folder and self._ignore.may_reinclude(path)):
                    continue
                is_taken = below_taken or path in selection.taken
                if is_folder:
                    folders.append((path, verdict, is_taken))
                if is_folder or is_taken:
                    counts = is_taken or path in selection.searched
                    yield _Visited(path, status, counts and not verdict.ignored)

    def _leading(self, folder: str, names: Collection[str]) -> Iterator[tuple[str, stat_result]]:
        for name in names:
            path = joined(folder, name)
            status = self._tree.status(path)
            if status is not None:
                yield path, status

    def _all(self, folder: str, verdict: Verdict | None) -> Iterator[tuple[str, stat_result]]:
        try:
            yield from self._tree.entries(folder)
        except UsageError as error:
            if error.code != UNREADABLE:
                raise
            # As BuildKit's walk: an ignored folder that cannot be listed has nothing for the build.
            if verdict is not None and verdict.ignored:
                self._tree.unreadable.pop(folder, None)

    def _entries(
        self, sent: dict[str, stat_result], selection: Selection, digests: FileDigests
    ) -> tuple[list[ContextEntry], list[stat_result]]:
        """Return the entries sorted by path, with the status of each as it was read."""
        entries: list[ContextEntry] = []
        statuses: list[stat_result] = []
        self._progress.reading(sum(status.st_size for status in sent.values() if stat.S_ISREG(status.st_mode)))
        for path in sorted(sent):
            status = sent[path]
            entry: ContextEntry | None
            if stat.S_ISDIR(status.st_mode):
                is_real = path in selection.real_modes or _is_below(path, selection.taken)
                entry = _folder(path, status if is_real else None)
            elif stat.S_ISLNK(status.st_mode):
                entry = _link(path, status, self._tree.target(path))
            else:
                entry, status = self._file(path, status, digests)
            if entry is not None:
                entries.append(entry)
                statuses.append(status)
        return entries, statuses

    def _file(self, path: str, status: stat_result, digests: FileDigests) -> tuple[ContextEntry | None, stat_result]:
        # BuildKit clears the bit that makes a socket one: it becomes an empty file (tonistiigi/fsutil `stat.go`).
        if stat.S_ISSOCK(status.st_mode):
            return _regular(path, status, 0, _NO_CONTENT), status
        reading = self._reading(path, status, digests)
        if reading is None:
            return None, status
        return _regular(path, reading.status, reading.status.st_size, reading.digest), reading.status

    def _reading(self, path: str, status: stat_result, digests: FileDigests) -> FileReading | None:
        """Return the reading of a file, None where it is gone or refused. After a refusal files are only opened."""
        try:
            if not self._tree.unreadable:
                return digests.read(self._tree.on_disk(path), status, path, self._proceed)
        except UsageError as error:
            if error.code != UNREADABLE or not isinstance(error.__cause__, OSError):
                raise
            self._tree.unreadable[path] = error.__cause__.strerror or "it cannot be read"
            return None
        self._check_stop()
        try:
            os.close(open_file(self._tree.on_disk(path)))
        except PermissionError as error:
            self._tree.unreadable[path] = error.strerror or "permission denied"
        except OSError:
            pass  # it is gone or no file any more: what was refused ends the scan anyway
        return None

    def _proceed(self, count: int) -> None:
        """Count bytes of files."""
        self._check_stop()
        self._progress.read(count)

    def _listed(self, count: int) -> None:
        """Count entries that wildcards were matched against."""
        self._check_stop()
        self._progress.matched(count)

    def _check_stop(self) -> None:
        """Raise StoppedError after the scan was cancelled."""
        if self._stop.is_set():
            raise StoppedError


def _is_sent(status: stat_result) -> bool:
    mode = status.st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode) or stat.S_ISSOCK(mode)


def _is_below(path: str, taken: Collection[str]) -> bool:
    return "" in taken or any(folder in taken for folder in parents(path))


def _folder(path: str, status: stat_result | None) -> ContextEntry:
    """Return the entry of a folder; without a status it is the same whatever the folder's mode and time are."""
    if status is None:
        return ContextEntry(path=path, kind=EntryKind.DIRECTORY, mode=_NEUTRAL_MODE)
    mode = stat.S_IMODE(status.st_mode)
    return ContextEntry(path=path, kind=EntryKind.DIRECTORY, mode=mode, mtime_ns=status.st_mtime_ns)


def _link(path: str, status: stat_result, target: str) -> ContextEntry:
    return ContextEntry(path=path, kind=EntryKind.SYMLINK, mode=0o777, mtime_ns=status.st_mtime_ns, link=target)


def _regular(path: str, status: stat_result, size: int, digest: str) -> ContextEntry:
    return ContextEntry(
        path=path,
        kind=EntryKind.FILE,
        mode=stat.S_IMODE(status.st_mode),
        size=size,
        mtime_ns=status.st_mtime_ns,
        digest=digest,
    )


def _with_hard_links(entries: list[ContextEntry], statuses: list[stat_result]) -> tuple[ContextEntry, ...]:
    """Return the entries, sorted by path, with the first name of each file that has several names among them."""
    names: dict[tuple[int, int], list[int]] = {}
    for index, status in enumerate(statuses):
        if entries[index].kind is EntryKind.FILE and status.st_nlink > 1:
            names.setdefault((status.st_dev, status.st_ino), []).append(index)
    for indexes in names.values():
        if len(indexes) > 1:
            first = entries[indexes[0]].path
            for index in indexes:
                entries[index] = replace(entries[index], hard_link=first)
    return tuple(entries)


def _next_names(taken: Collection[str]) -> dict[str, set[str]]:
    """Return the names that lead from each folder to a taken path."""
    names: dict[str, set[str]] = {}
    for path in taken:
        for below in (path, *parents(path)):
            folder, _, name = below.rpartition("/")
            names.setdefault(folder, set()).add(name)
    return names
