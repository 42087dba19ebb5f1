"""Folders that are hard to copy: every mode, name, link and time that a file system can have, by a seed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

_LONG = "long-" + "n" * 250
# Names that have broken one tool or another. A folder has each at most once.
_NAMES = (
    *(
        "plain",
        "with space",
        " lead",
        "trail ",
        "-rf",
        "--",
        "~",
        "#hash",
        "a\nline",
        "tab\tname",
        "quote'\"",
        "b\\s",
    ),
    *("star*", "[class]", "q?", "${HOME}", "%41", "a:b", "caf\u00e9", "cafe\u0301", "\u65e5\u672c", "\U0001f600"),
    *(".hidden", "..two", "...", "UPPER", "upper", "nul", "x.tar.gz", "app.dockerignore", ".gitignore", _LONG),
)
_NOT_UTF8 = (b"latin-\xe9", b"\xff\xfe", b"cut-\xe6\x97")
_TARGETS = ("plain", "nowhere", ".", "..", "../../../../etc/passwd", "/etc/passwd", "/", "loop", "a\nb", "x" * 900)
_SECOND = 1_000_000_000
_TIMES = tuple(time * _SECOND for time in (0, 1, 1_700_000_000, 1 << 33))
_EARLY_TIMES = tuple(time * _SECOND for time in (-1, -86400 * 365 * 5))
_FRACTIONS = (0, 0, 123_456_789, 500_000_000)
_MODES = (0o000, 0o044, 0o111, 0o200, 0o311, 0o400, 0o444, 0o600, 0o644, 0o755, 0o1777, 0o2755, 0o4711, 0o6755, 0o7777)


def grow(
    root: Path,
    seed: int,
    dockerfile: str,
    *,
    entries: int = 60,
    not_utf8: bool = True,
    early: bool = True,
) -> None:
    """Make the folder `root` with about so many entries; the same seed gives the same tree.

    It has this `Dockerfile`, and a `.dockerignore` that names some entries. `not_utf8`: some names are not, which newer
    engines refuse. `early`: some times of files and folders are before 1970, which no archive keeps.
    """
    root.mkdir()
    (root / "Dockerfile").write_text(dockerfile)
    (root / ".dockerignore").write_text("plain\n**/q?\n!deep/q?\n")
    _Grower(random.Random(seed), root, not_utf8=not_utf8, early=early).grow(entries)


class _Grower:
    def __init__(self, chance: random.Random, root: Path, *, not_utf8: bool, early: bool) -> None:
        self._chance = chance
        self._root = root
        self._names = [*_NAMES, *(map(os.fsdecode, _NOT_UTF8) if not_utf8 else ())]
        self._times = (*_TIMES, *(_EARLY_TIMES if early else ()))
        self._folders = [root]
        self._files: list[Path] = []
        self._made: list[Path] = []

    def grow(self, entries: int) -> None:
        self._deep()
        makers: Sequence[Callable[[Path], None]] = (
            *(self._file, self._file, self._file, self._folder, self._folder, self._symlink, self._symlink),
            *(self._hard_link, self._sparse, self._large),
        )
        for _ in range(entries):
            path = self._chance.choice(self._folders) / self._chance.choice(self._names)
            if not os.path.lexists(path) and len(os.fsencode(path)) < 3500:
                self._chance.choice(makers)(path)
        # Modes and times last, the deepest first: filling a folder changes its time.
        for path in sorted(self._made, key=lambda made: len(made.parts), reverse=True):
            self._settle(path)

    def _deep(self) -> None:
        folder = self._root / "deep"
        for number in range(12):
            self._folder(folder)
            folder /= f"level-{number}-" + "d" * 30
        self._file(folder)

    def _file(self, path: Path) -> None:
        self._write(path, self._chance.choice((b"", b"same", self._chance.randbytes(self._chance.randrange(2000)))))

    def _large(self, path: Path) -> None:
        self._write(path, self._chance.randbytes(300_000))

    def _sparse(self, path: Path) -> None:
        self._write(path, b"")
        os.truncate(path, 1 << 20)

    def _write(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        self._files.append(path)
        self._made.append(path)

    def _folder(self, path: Path) -> None:
        path.mkdir()
        self._folders.append(path)
        self._made.append(path)

    def _symlink(self, path: Path) -> None:
        path.symlink_to(self._chance.choice(_TARGETS))
        self._made.append(path)

    def _hard_link(self, path: Path) -> None:
        path.hardlink_to(self._chance.choice(self._files))

    def _settle(self, path: Path) -> None:
        time = self._chance.choice(self._times) + self._chance.choice(_FRACTIONS)
        if not path.is_symlink():
            path.chmod(self._chance.choice(_MODES))
        os.utime(path, ns=(time, time), follow_symlinks=False)
