"""A file that somebody else is writing, read as it grows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from coordinator.errors import UsageError

_BLOCK = 2**20


class Tail:
    """Reads a file from its beginning, and goes on where it stopped when it is asked again. No file is an empty one.

    One that has become shorter is being written again: nothing is read twice of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rest = b""
        self._offset = 0

    def new(self) -> Iterator[bytes]:
        """The lines that have become whole, in blocks of them; `rest` is what follows the last one.

        Raises UsageError for a file that cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                while block := file.read(_BLOCK):
                    self._offset += len(block)
                    whole, end, self.rest = (self.rest + block).rpartition(b"\n")
                    if end:
                        yield whole + end
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise UsageError(f"cannot read {self.path}: {error.strerror}", hint=f"ls -l {self.path}") from error
