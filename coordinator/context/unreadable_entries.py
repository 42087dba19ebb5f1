"""The error for all entries of a context that cannot be read, with the commands that make each readable or ignored."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from coordinator.context.disk_tree import DiskTree
from coordinator.context.read_errors import UNREADABLE
from coordinator.domain.dockerfile.dockerignore import compile_ignore
from coordinator.domain.visible import file_word, visible_name
from coordinator.errors import UsageError

_MOST_NAMED = 10
# What has a meaning in a pattern of .dockerignore.
_SPECIAL = frozenset("*?[]^\\")
_NO_COMMAND = "FILE"


def unreadable_entries(
    tree: DiskTree, reasons: Mapping[str, str], sources: Collection[str], ignore_file: Path
) -> UsageError:
    """Return the error for the entries at these paths, with the system's reason for each.

    `sources` are the paths that instructions name: these cannot be ignored. `ignore_file` is the file in force.
    """
    paths = sorted(reasons)
    named = paths[:_MOST_NAMED]
    lines = [f"cannot read {visible_name(path)} in the context: {reasons[path]}" for path in named]
    hints = [*_readable(tree, named), *_ignored(named, sources, ignore_file)]
    if len(paths) > _MOST_NAMED:
        lines.append(f"and {len(paths) - _MOST_NAMED} more")
        hints.append(f"all of them: find {file_word(tree.root)} ! -readable")
    return UsageError("\n".join(lines), hint="\n".join(hints), code=UNREADABLE)


def _readable(tree: DiskTree, paths: Sequence[str]) -> list[str]:
    """Return a line per owner of the entries: how they become readable."""
    of_owner: dict[int, list[str]] = {}
    sound: list[str] = []
    for path in paths:
        try:
            status = os.lstat(tree.on_disk("" if path == "." else path))
        except OSError:
            sound.append(path)
            continue
        needed = stat.S_IRUSR | (stat.S_IXUSR if stat.S_ISDIR(status.st_mode) else 0)
        if status.st_uid == os.geteuid() and status.st_mode & needed == needed:
            sound.append(path)
        else:
            of_owner.setdefault(status.st_uid, []).append(path)
    hints = []
    for owner, owned in of_owner.items():
        it = "it" if len(owned) == 1 else "them"
        if owner == os.geteuid():
            hints.append(f"make {it} readable: {_command('chmod u+rX', tree, owned)}")
        else:
            belongs = "it belongs" if len(owned) == 1 else "they belong"
            hints.append(f"{belongs} to {_user(owner)}: {_command('sudo chmod a+rX', tree, owned)}")
    if sound:
        # Not the mode is the reason, but the disk, an access list or a folder above.
        hints.append(f"see why: {_command('namei -l', tree, sound)}")
    return hints


def _command(start: str, tree: DiskTree, paths: Sequence[str]) -> str:
    words = [file_word(tree.root if path == "." else tree.root / path) for path in paths]
    return " ".join((start, *dict.fromkeys(words)))


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"the user {number}"


def _ignored(paths: Sequence[str], sources: Collection[str], ignore_file: Path) -> list[str]:
    """Return how the entries are ignored that no instruction names."""
    optional = [path for path in paths if path != "." and not _is_named(path, sources)]
    patterns = [pattern for pattern in map(ignore_pattern, optional) if pattern]
    hints = []
    file = file_word(ignore_file)
    if patterns and file != _NO_COMMAND:
        it = "it" if len(patterns) == 1 else "them"
        hints.append(f"or leave {it} out: {_appending(patterns, ignore_file)} >> {file}")
    hints += [
        f"or rename {visible_name(path)}: no line of {ignore_file.name} can be printed for it"
        for path in optional
        if not ignore_pattern(path)
    ]
    return hints


def _is_named(path: str, sources: Collection[str]) -> bool:
    return any(source == path or source.startswith(f"{path}/") for source in sources)


def _appending(patterns: Sequence[str], ignore_file: Path) -> str:
    words = " ".join(map(shlex.quote, patterns))
    if not _ends_in_a_line(ignore_file):
        return rf"printf '\n%s' {words}"
    # The echo of some shells reads backslashes and options.
    is_plain = len(patterns) == 1 and "\\" not in words and not words.startswith("-")
    return f"echo {shlex.quote(patterns[0])}" if is_plain else rf"printf '%s\n' {words}"


def _ends_in_a_line(file: Path) -> bool:
    try:
        return file.read_bytes()[-1:] in (b"", b"\n")
    except OSError:
        return True


def ignore_pattern(path: str) -> str:
    """Return the line of `.dockerignore` that ignores this path; empty where none can, or a terminal cannot show it."""
    if not path.isprintable():
        return ""
    pattern = "".join(f"\\{char}" if char in _SPECIAL else char for char in path)
    if pattern[0] in "#! ":
        pattern = f"\\{pattern}"
    if pattern.endswith(" "):
        # A blank at the end of a line is dropped, also behind a backslash.
        pattern = f"{pattern[:-1]}[ ]"
    return pattern if compile_ignore(pattern).ignores(path) else ""
