"""What a scan tells the user: that everything of a large folder is taken and why, and how far the scan is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from coordinator.domain.visible import visible_name

# A context with so many entries is seldom meant.
MANY_ENTRIES = 100_000
_EVERY_S = 3.0


class ScanProgress:
    """Counts for one scan. `say` gets a line at most every 3 s, and the reason why everything is taken at once.

    `everything` is that reason, empty where the scan takes sources only; `home` is the user's home folder. `clock`
    returns seconds.
    """

    def __init__(
        self,
        root: Path,
        everything: str,
        home: Path | None,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        real = Path(os.path.realpath(root))
        self._root = visible_name(str(real))
        self._everything = everything
        self._say = say
        self._clock = clock
        self._next_s = clock() + _EVERY_S
        self._bytes = 0
        self._all_bytes = 0
        # Also a folder that has the home folder in it, such as "/".
        if home is not None and Path(os.path.realpath(home)).is_relative_to(real):
            self._explain()

    def matched(self, entries: int) -> None:
        """Count the entries that wildcards were matched against so far."""
        if self._is_due():
            self._say(f"reading the context {self._root}: {entries} entries matched against wildcards")

    def found(self, entries: int) -> None:
        """Count the entries found so far."""
        if entries >= MANY_ENTRIES:
            self._explain()
        if self._is_due():
            self._say(f"reading the context {self._root}: {entries} entries found")

    def reading(self, all_bytes: int) -> None:
        """Begin to read files of so many bytes."""
        self._all_bytes = all_bytes

    def read(self, count: int) -> None:
        """Count bytes of files that have been read, or need not be read."""
        self._bytes += count
        if self._is_due():
            mb, all_mb = (number // 1_000_000 for number in (self._bytes, self._all_bytes))
            self._say(f"reading the context {self._root}: {mb} of {max(mb, all_mb)} MB")

    def _explain(self) -> None:
        if self._everything:
            self._say(f"taking everything of {self._root}, because {self._everything}")
            self._everything = ""

    def _is_due(self) -> bool:
        now = self._clock()
        if now < self._next_s:
            return False
        self._next_s = now + _EVERY_S
        return True
