"""Sources of a Dockerfile that no build can take: what they name is missing, ignored, or no file."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from coordinator.context.disk_tree import DiskTree, joined, parent
from coordinator.context.selection import Selection, Way
from coordinator.domain.closest import closest
from coordinator.domain.dockerfile.context_sources import ContextSource
from coordinator.domain.dockerfile.dockerignore import Matcher
from coordinator.domain.visible import visible_name
from coordinator.errors import UsageError
from coordinator.regular_files import kind_of


def check_sources(
    tree: DiskTree, selection: Selection, ignore: Matcher, sent: Collection[str], skipped: Collection[str], name: str
) -> None:
    """Raise UsageError for the sources that must exist and do not, or that name a pipe or device.

    `sent` are the paths of the manifest, `skipped` those of pipes and devices, `name` is the Dockerfile's.
    """
    problems: list[tuple[int, str, str]] = []
    for source, ways in selection.ways.items():
        unfit = next((way.path for way in ways if way.path in skipped), None)
        if unfit is not None:
            problems.append(_unfit(tree, source, unfit, name))
        elif source.required and not ways:
            problems.append(_circular(source, name))
        elif source.required and not any(_is_sent(way, sent) for way in ways):
            problems.append(_missing(tree, source, ways[0], ignore, sent, name))
    if problems:
        _, messages, hints = zip(*sorted(problems), strict=True)
        raise UsageError("\n".join(dict.fromkeys(messages)), hint="\n".join(dict.fromkeys(hints)), code="context")


def _is_sent(way: Way, sent: Collection[str]) -> bool:
    return way.exists and all(path in sent for path in (*way.links, way.path) if path)


def _place(source: ContextSource, name: str) -> str:
    return f'{name}:{source.line}: "/{visible_name(source.path)}"'


def _unfit(tree: DiskTree, source: ContextSource, path: str, name: str) -> tuple[int, str, str]:
    status = tree.status(path)
    kind = kind_of(status.st_mode) if status else "no file"
    message = f"{_place(source, name)} is {kind}, which engines copy differently or not at all"
    return (
        source.line,
        message,
        f"copy a regular file: write what is read from {visible_name(path)} to one before the build",
    )


def _circular(source: ContextSource, name: str) -> tuple[int, str, str]:
    # BuildKit's words: failed to compute cache key: too many links.
    hint = f"the symbolic links of {visible_name(source.path)} lead in a circle: ls -l shows where each of them leads"
    return source.line, f"{_place(source, name)}: too many links", hint


def _missing(
    tree: DiskTree, source: ContextSource, way: Way, ignore: Matcher, sent: Collection[str], name: str
) -> tuple[int, str, str]:
    # BuildKit's words: failed to compute cache key: "/x": not found.
    message = f"{_place(source, name)}: not found in the context {visible_name(str(tree.root))}"
    return source.line, message, _hint(tree, source, way, ignore, sent)


def _hint(tree: DiskTree, source: ContextSource, way: Way, ignore: Matcher, sent: Collection[str]) -> str:
    for path in (*way.links, way.path):
        if tree.is_own(path):
            return f"{visible_name(path)} is a file of archloom's own, which is never part of a context"
        reason = ignore.reason(path) if path and path not in sent and tree.status(path) else ""
        if reason:
            return f"{visible_name(path)} is excluded by {reason}"
    # Where a link leads nowhere, the Dockerfile's spelling is not at fault.
    if way.links:
        link = way.links[-1]
        return (
            f"links are followed inside the context only: {visible_name(link)} -> {visible_name(tree.target(link))} "
            f"leads to {visible_name(way.path)} in the context, which does not exist"
        )
    folder = parent(way.path)
    while folder and tree.status(folder) is None:
        folder = parent(folder)
    wanted = way.path.removeprefix(f"{folder}/" if folder else "").split("/")[0]
    names = [path.rpartition("/")[2] for path, _ in _listed(tree, folder)]
    close = closest(wanted, names)
    if close:
        rest = way.path[len(joined(folder, wanted)) :]
        return f"did you mean {visible_name(joined(folder, close) + rest)}?"
    return f"{visible_name(source.path)} is looked up in the context, {visible_name(str(tree.root))}"


def _listed(tree: DiskTree, folder: str) -> Iterable[tuple[str, object]]:
    try:
        return list(tree.entries(folder))
    except UsageError:
        return ()
