"""The differences between the inputs of two runs of one target."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from coordinator.domain.dockerfile.stages import parse
from coordinator.domain.image.platforms import Platform
from coordinator.domain.inputs.build_id import ContextEntry, EntryKind
from coordinator.domain.why.built_from import BuiltFrom, KeptInputs
from coordinator.domain.why.copied_files import CopySource, copy_sources
from coordinator.errors import UsageError

_OPTIONS = {"stage": "--target", "no_cache": "--no-cache", "emulate": "--emulate"}


class ChangeKind(StrEnum):
    BASE = "base"
    DOCKERFILE = "dockerfile"
    ARGUMENT = "build_arg"
    LABEL = "label"
    OPTION = "option"
    FILE = "file"
    CONTEXT = "context"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """`what` is an image, a path or a name; `before` and `now` are its values in the two runs, None where absent.

    For a Dockerfile these are the changed lines. `copy_sources` are the instructions that use a file of the context,
    None where that is unknown; `same` are the platforms whose own image of a changed base did not change.
    """

    kind: ChangeKind
    what: str
    before: str | None = None
    now: str | None = None
    copy_sources: tuple[str, ...] | None = None
    same: tuple[Platform, ...] = ()
    volatile: bool = False


def changes(
    before: BuiltFrom, now: BuiltFrom, platforms: Sequence[Platform], build_platform: Platform
) -> tuple[Change, ...]:
    """Return what changed between the runs, the most important first; without details where too little is kept."""
    return (
        *_bases(before, now),
        *_dockerfile(before, now),
        *_named(ChangeKind.ARGUMENT, "build_args", before, now),
        *_named(ChangeKind.LABEL, "labels", before, now),
        *_options(before, now),
        *_files(before, now, platforms, build_platform),
    )


def _bases(before: BuiltFrom, now: BuiltFrom) -> Iterator[Change]:
    old, new = _mapping(before.inputs, "bases"), _mapping(now.inputs, "bases")
    for image in sorted(old.keys() & new.keys()):
        if old[image] != new[image]:
            same = tuple(
                platform for platform, images in _of_platforms(now) if _is_same(before, platform, image, images)
            )
            yield Change(kind=ChangeKind.BASE, what=image, before=old[image], now=new[image], same=same)


def _of_platforms(built_from: BuiltFrom) -> Sequence[tuple[Platform, Mapping[str, str]]]:
    return tuple(built_from.kept.bases.items()) if built_from.kept else ()


def _is_same(before: BuiltFrom, platform: Platform, image: str, images: Mapping[str, str]) -> bool:
    """Return whether the platform's own image is the same: an index digest changes with every platform in it."""
    earlier = dict(_of_platforms(before)).get(platform, {})
    return image in images and images[image] == earlier.get(image)


def _dockerfile(before: BuiltFrom, now: BuiltFrom) -> Iterator[Change]:
    if before.inputs.get("dockerfile") == now.inputs.get("dockerfile"):
        return
    name = now.kept.dockerfile_path if now.kept else "Dockerfile"
    if before.kept is None or now.kept is None:
        yield Change(kind=ChangeKind.DOCKERFILE, what=name)
        return
    lines = list(difflib.ndiff(before.kept.dockerfile.splitlines(), now.kept.dockerfile.splitlines()))
    yield Change(kind=ChangeKind.DOCKERFILE, what=name, before=_lines(lines, "- "), now=_lines(lines, "+ "))


def _lines(lines: Sequence[str], mark: str) -> str:
    return "\n".join(line.removeprefix(mark) for line in lines if line.startswith(mark))


def _named(kind: ChangeKind, key: str, before: BuiltFrom, now: BuiltFrom) -> Iterator[Change]:
    old, new = _mapping(before.request, key), _mapping(now.request, key)
    volatile = now.request.get("volatile")
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            left_out = isinstance(volatile, list) and name in volatile
            yield Change(kind=kind, what=name, before=old.get(name), now=new.get(name), volatile=left_out)


def _options(before: BuiltFrom, now: BuiltFrom) -> Iterator[Change]:
    for key, option in _OPTIONS.items():
        old, new = before.request.get(key), now.request.get(key)
        if (old or None) != (new or None):
            yield Change(kind=ChangeKind.OPTION, what=option, before=_said(old), now=_said(new))


def _said(value: object) -> str | None:
    return str(value) if value else None


def _files(
    before: BuiltFrom, now: BuiltFrom, platforms: Sequence[Platform], build_platform: Platform
) -> Iterator[Change]:
    if _mapping(before.inputs, "contexts") == _mapping(now.inputs, "contexts"):
        return
    if before.kept is None or now.kept is None:
        yield Change(kind=ChangeKind.CONTEXT, what=str(now.request.get("context", "")))
        return
    known_takers = _copy_sources(now, platforms, build_platform)
    ordered: list[tuple[float, Change]] = []
    for path, was, is_now in _changed_files(before.kept, now.kept, platforms):
        users = tuple(source for source in known_takers or () if source.takes(path))
        # A change of the Dockerfile itself has its own entry.
        if users or path != now.kept.dockerfile_path:
            names = None if known_takers is None else tuple(dict.fromkeys(source.text for source in users))
            change = Change(kind=ChangeKind.FILE, what=path, before=was, now=is_now, copy_sources=names)
            ordered.append((users[0].line if users else inf, change))
    # The build cache misses from the first instruction that uses a changed file: list these in Dockerfile order.
    yield from (change for _, change in sorted(ordered, key=lambda item: (item[0], item[1].what)))


def _changed_files(
    before: KeptInputs, now: KeptInputs, platforms: Sequence[Platform]
) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield each path that differs for one of these platforms once, with how it is shown before and now."""
    seen: set[str] = set()
    for platform in platforms:
        if platform in before.contexts and platform in now.contexts:
            old, new = ({entry.path: entry for entry in kept.contexts[platform]} for kept in (before, now))
            for path in (old.keys() | new.keys()) - seen:
                was, is_now = _shown(old.get(path), new.get(path)), _shown(new.get(path), old.get(path))
                if was != is_now:
                    seen.add(path)
                    yield path, was, is_now


def _copy_sources(
    now: BuiltFrom, platforms: Sequence[Platform], build_platform: Platform
) -> Sequence[CopySource] | None:
    """Return the takers for all platforms: they may build different stages. `None` without a readable Dockerfile."""
    kept, stage = now.kept, now.request.get("stage")
    if kept is None:
        return None
    try:
        dockerfile = parse(kept.dockerfile, kept.dockerfile_path)
        return tuple(
            source
            for platform in platforms
            for source in copy_sources(
                dockerfile,
                stage=stage if isinstance(stage, str) else "",
                platform=platform,
                build_platform=build_platform,
                build_args=_mapping(now.request, "build_args"),
            )
        )
    except UsageError:  # an archloom version that reads Dockerfiles differently made the run
        return None


def _shown(entry: ContextEntry | None, other: ContextEntry | None) -> str | None:
    """Return what tells the entry from the other: its kind, link target, mode, hard link, or its content's digest."""
    if entry is None:
        return None
    if other is not None and entry.kind is other.kind:
        if entry.kind is EntryKind.SYMLINK:
            return entry.link
        if entry.mode != other.mode:
            return f"mode {entry.mode:o}"
        if entry.digest == other.digest and entry.hard_link != other.hard_link:
            return _link_shown(entry)
    return entry.digest if entry.kind is EntryKind.FILE else entry.kind.value


def _link_shown(entry: ContextEntry) -> str:
    if entry.hard_link in ("", entry.path):
        return "has hard links" if entry.hard_link else "no hard link"
    return f"hard link of {entry.hard_link}"


def _mapping(data: Mapping[str, object], key: str) -> Mapping[str, str]:
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}
