"""Which entries of a context a build can take: its sources with wildcards expanded and symbolic links followed.

BuildKit follows links before it applies `.dockerignore` (tonistiigi/fsutil `followlinks.go`): in a source, every
component that is a link is replaced by its target, which is clamped to the context's root, and both link and target are
sent. It cleans targets lexically (`a/..` is nothing), whereas the copy on the engine walks them (`a` may be a link).
The selection has both readings: an entry too many costs bytes, a missing one the build.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from coordinator.context.disk_tree import DiskTree, joined, parent, parents
from coordinator.domain.dockerfile.context_sources import ContextSource, ContextUse, Wildcard
from coordinator.domain.dockerfile.dockerignore import Matcher, compile_include
from coordinator.domain.dockerfile.path_match import PatternError, crosses_folders, matches, split_pattern
from coordinator.errors import UsageError

# As BuildKit, which then gives up (containerd/continuity `fs/path.go`).
_MAX_LINKS = 255
ENTRIES_PER_CHECK = 256
_INCLUDE_WILDCARDS = frozenset("*[]?^\\")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One reading of a source: the `links` that were followed, and the `path` they lead to, where it `exists`."""

    links: tuple[str, ...]
    path: str
    exists: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a build takes, before `.dockerignore`.

    Each of `taken` is a path with all that is below it; "" is the whole context. `searched` are folders in which
    wildcards are matched: each counts by itself, since the builder of Docker 20.10 fails where it is missing, also if
    nothing matches. Of the folders at or above these paths only the modes of `real_modes` count. `ways` has each source
    without wildcards. `links_to_root` tells whether a link leads a source to the root, or to wildcards that are matched
    there.
    """

    taken: frozenset[str]
    searched: frozenset[str]
    real_modes: frozenset[str]
    links_to_root: bool
    ways: Mapping[ContextSource, tuple[Way, ...]] = field(repr=False)


def select(
    tree: DiskTree, use: ContextUse, ignore: Matcher, listed: Callable[[int], None] = lambda _: None
) -> Selection:
    """Return what `use` takes of the tree. It lists only folders in which wildcards are matched.

    `listed` is called every 256 entries with their number; it may raise to end the selection.
    Raises UsageError where such a folder cannot be listed, or a folder on the way cannot be entered.
    """
    selector = _Selector(tree, ignore, listed)
    if use.everything:
        selector.taken.add("")
    for source in use.sources:
        selector.add(source)
    return Selection(
        taken=frozenset(selector.taken),
        searched=frozenset(selector.searched),
        real_modes=frozenset(selector.real_modes),
        links_to_root=selector.links_to_root,
        ways=dict(selector.ways),
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """One component of a source."""

    text: str
    wild: bool = False


_Parts = tuple[_Part, ...]


class _Selector:
    def __init__(self, tree: DiskTree, ignore: Matcher, listed: Callable[[int], None]) -> None:
        self._tree = tree
        self._ignore = ignore
        self._tell = listed
        self._count = 0
        self.taken: set[str] = set()
        self.searched: set[str] = set()
        self.real_modes: set[str] = set()
        self.links_to_root = False
        self.ways: dict[ContextSource, tuple[Way, ...]] = {}

    def add(self, source: ContextSource) -> None:
        match source.wildcard:
            case None:
                self.ways[source] = tuple(self._follow(_literal(source.path)))
                for way in self.ways[source]:
                    self._take(way, source)
            case Wildcard.GO:
                self._add_go_pattern(source)
            case Wildcard.INCLUDE:
                self._add_include_pattern(source)

    def _add_go_pattern(self, source: ContextSource) -> None:
        prefix, pattern = split_pattern(source.path)
        self._add_searched(prefix)
        try:
            if crosses_folders(pattern):
                self._add_below(source, prefix, lambda path: matches(pattern, path))
            self._add_parts(source, (*_literal(prefix), *_wild(pattern)))
        except PatternError:
            self._add_parts(source, _literal(prefix))

    def _add_include_pattern(self, source: ContextSource) -> None:
        names = source.path.split("/")
        at = next((at for at, name in enumerate(names) if not _INCLUDE_WILDCARDS.isdisjoint(name)), len(names))
        prefix = "/".join(names[:at])
        self._add_searched(prefix)
        try:
            matcher = compile_include(source.path)
        except UsageError:
            self._add_parts(source, _literal(prefix))
            return
        self._add_below(source, prefix, lambda path: matcher.ignores(joined(prefix, path)))
        try:
            # BuildKit follows links component by component, with `**` as `*`.
            self._add_parts(source, (*_literal(prefix), *_wild("/".join(names[at:]))))
        except PatternError:
            self._add_parts(source, _literal(prefix))

    def _add_searched(self, prefix: str) -> None:
        for way in self._follow(_literal(prefix)):
            status = self._tree.status(way.path) if way.path and way.exists else None
            if status is not None:
                (self.searched if stat.S_ISDIR(status.st_mode) else self.taken).add(way.path)

    def _add_parts(self, source: ContextSource, parts: _Parts) -> None:
        for way in self._follow(parts):
            self._take(way, source)

    def _add_below(self, source: ContextSource, prefix: str, match: Callable[[str], bool]) -> None:
        """Add each entry below the prefix whose path from there matches, with all that is below the entry."""
        for way in list(self._follow(_literal(prefix))):
            self._note_root(way.path, way.links)
            folders = [way.path] if way.exists else []
            while folders:
                for path, status in self._listed(folders.pop()):
                    if match(path.removeprefix(f"{way.path}/") if way.path else path):
                        self._add_parts(source, _literal(path))
                    # What is ignored is not in the build: no pattern matches below it.
                    elif stat.S_ISDIR(status.st_mode) and self._is_visited(path):
                        folders.append(path)

    def _is_visited(self, folder: str) -> bool:
        return not self._ignore.ignores(folder) or self._ignore.may_reinclude(folder)

    def _listed(self, folder: str) -> Iterator[tuple[str, os.stat_result]]:
        status = self._tree.status(folder) if folder else None
        if status is None or stat.S_ISDIR(status.st_mode):
            for entry in self._tree.entries(folder):
                self._count += 1
                if self._count % ENTRIES_PER_CHECK == 0:
                    self._tell(self._count)
                yield entry

    def _take(self, way: Way, source: ContextSource) -> None:
        if not way.exists:
            return
        self.taken.add(way.path)
        self._note_root(way.path, way.links)
        if source.own_mode:
            self.real_modes.add(way.path)
        if source.parents:
            self.real_modes.update(folder for path in (way.path, *way.links) for folder in parents(path))

    def _note_root(self, path: str, links: tuple[str, ...]) -> None:
        self.links_to_root = self.links_to_root or (not path and bool(links))

    def _follow(self, parts: _Parts) -> Iterator[Way]:
        """Yield the ways that these components lead. Links are taken as they are met, also where they lead nowhere."""
        pending: list[tuple[str, _Parts, tuple[str, ...]]] = [("", parts, ())]
        seen: set[tuple[str, _Parts]] = set()
        while pending:
            current, rest, links = pending.pop()
            if (current, rest) in seen or len(links) > _MAX_LINKS:
                continue
            seen.add((current, rest))
            if not rest:
                yield Way(links=links, path=current, exists=True)
                continue
            first, rest = rest[0], rest[1:]
            if first.wild:
                self._note_root(current, links)
                pending += [(current, (_Part(name), *rest), links) for name in self._matching(current, first.text)]
                continue
            if first.text == "..":
                pending.append((parent(current), rest, links))
                continue
            path = joined(current, first.text)
            status = self._tree.status(path)
            if status is not None and stat.S_ISLNK(status.st_mode):
                self.taken.add(path)
                followed = self._readings(current, self._tree.target(path))
                pending += [(start, (*target, *rest), (*links, path)) for start, target in followed]
            elif status is not None and (not rest or stat.S_ISDIR(status.st_mode)):
                pending.append((path, rest, links))
            else:
                yield Way(links=links, path="/".join((path, *(part.text for part in rest))), exists=False)

    def _matching(self, folder: str, pattern: str) -> list[str]:
        return [
            name for name in (path.rpartition("/")[2] for path, _ in self._listed(folder)) if matches(pattern, name)
        ]

    @staticmethod
    def _readings(folder: str, target: str) -> list[tuple[str, _Parts]]:
        """Return where a link in `folder` leads: a folder and components from there, for each reading of the target."""
        start = "" if target.startswith("/") else folder
        walked = (start, _literal(target))
        cleaned: list[str] = []
        for name in joined(start, target).split("/"):
            if name == "..":
                del cleaned[-1:]
            elif name not in {"", "."}:
                cleaned.append(name)
        lexical = ("", _literal("/".join(cleaned)))
        return [walked, lexical] if ".." in target.split("/") else [walked]


def _literal(path: str) -> _Parts:
    return tuple(_Part(name) for name in path.split("/") if name not in {"", "."})


def _wild(pattern: str) -> _Parts:
    return tuple(_Part(name, wild=True) for name in pattern.split("/") if name)
