"""A person at a terminal: a command on a real pty, which sees what it prints and types answers."""

from __future__ import annotations

import os
import pty
import select
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.services.commands import Child

PATIENCE = 60.0
CTRL_C, CTRL_D = "\x03", "\x04"


class Terminal:
    """`shown` is all that was printed, also by what was typed where that is echoed."""

    def __init__(self, process: Child, fd: int) -> None:
        self._process = process
        self._fd = fd
        self._seen = 0
        self.shown = ""

    def expect(self, text: str) -> None:
        """Waits for this text, behind what was expected before."""
        until = time.monotonic() + PATIENCE
        while (at := self.shown.find(text, self._seen)) < 0:
            assert self._read(until), f"no {text!r} in:\n{self.shown}"
        self._seen = at + len(text)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def answer(self, question: str, text: str) -> None:
        """Waits for the question and types the answer, with Enter."""
        self.expect(question)
        self.type(f"{text}\n")

    def end(self) -> int:
        """Reads to the end; the exit code."""
        until = time.monotonic() + PATIENCE
        while self._read(until):
            pass
        return self.wait(PATIENCE)

    def hang_up(self) -> None:
        """Closes the window: SIGHUP, and nobody reads any more."""
        # Its number stays taken, so that it is closed once.
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, self._fd)
        os.close(nowhere)

    def wait(self, within: float = PATIENCE) -> int:
        """The exit code, once there is one."""
        return self._process.wait(within)

    def _read(self, until: float) -> bool:
        left = until - time.monotonic()
        assert left > 0, f"it went on and on:\n{self.shown}"
        ready, _, _ = select.select([self._fd], [], [], left)
        assert ready, f"nothing more came:\n{self.shown}"
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # EIO: nobody has the other end open any more
            return False
        self.shown += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)


@contextmanager
def terminal(words: Sequence[str], environment: Mapping[str, str], folder: Path) -> Iterator[Terminal]:
    """The command in the foreground of a terminal of its own; ended with the block."""
    ours, theirs = pty.openpty()
    try:
        # setsid makes the pty the one that /dev/tty means, which passwords are read from.
        process = Child(
            ["setsid", "--ctty", *words],
            env=dict(environment),
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=False,  # setsid would fork, and end
        )
    finally:
        os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait(PATIENCE)
        os.close(ours)
