"""Read a file while another process writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from coordinator.domain.visible import file_word
from coordinator.errors import UsageError

_BLOCK_BYTES = 2**20


class Tail:
    """Reads a file from its beginning; each call continues where the previous one stopped. A missing file is empty.

    A file that has become shorter is being written again: nothing before the old offset is read twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rest = b""
        self._offset = 0

    def new(self) -> Iterator[bytes]:
        """Yield the new complete lines, in blocks; `rest` is the incomplete line at the end.

        Raises UsageError for a file that cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                while block := file.read(_BLOCK_BYTES):
                    self._offset += len(block)
                    whole, end, self.rest = (self.rest + block).rpartition(b"\n")
                    if end:
                        yield whole + end
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise UsageError(
                f"cannot read {self.path}: {error.strerror}", hint=f"ls -l {file_word(self.path)}"
            ) from error
