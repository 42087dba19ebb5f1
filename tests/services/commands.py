"""Processes of a test, none of which it waits for without end: what takes too long is killed, with all it has started.

An orphan may hold the pipes of a command that is long gone (ssh's way through another host does): it is killed too.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from subprocess import PIPE
from types import TracebackType
from typing import Any

from tests.services.descendants import descendants, writers

# Longer than a command takes on a busy machine, and less than a test may.
LIMIT = 120.0
_LAST_WORDS = 5.0


def next_line(descriptor: int) -> bytes:
    """The next line, and not a byte more: what a reader has buffered, `communicate` would not return."""
    line = b""
    while not line.endswith(b"\n") and (letter := os.read(descriptor, 1)):
        line += letter
    return line


class Child(subprocess.Popen[Any]):
    """A process in a session of its own. Whoever waits for it raises TimeoutExpired when the time is over: with the
    command, the limit and what it had printed; nothing of it lives then."""

    def __init__(self, command: Any, **more: Any) -> None:
        self._was_ended = False
        super().__init__(command, **{"start_new_session": True, **more})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind:
            self.end()  # the block did not come to where it would have told it to
        super().__exit__(kind, error, traceback)

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:  # noqa: A002
        limit = LIMIT if timeout is None else timeout
        try:
            return super().communicate(input, limit)
        except subprocess.TimeoutExpired:
            raise self._too_slow(limit) from None

    def wait(self, timeout: float | None = None) -> int:
        limit = LIMIT if timeout is None else timeout
        try:
            return super().wait(limit)
        except subprocess.TimeoutExpired:
            if self._was_ended:  # it cannot even be killed
                raise
            raise self._too_slow(limit) from None

    def is_still(self, seconds: float) -> bool:
        """Whether it goes on for so long."""
        try:
            super().wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def line(self, within: float = LIMIT) -> Any:
        """The next line of its standard output; empty when there is no more."""
        assert self.stdout is not None
        with self.within(within):
            line = next_line(self.stdout.fileno())
        return line.decode() if self.text_mode else line

    @contextmanager
    def within(self, seconds: float = LIMIT) -> Iterator[None]:
        """The block may read what it prints, for so long."""
        over = threading.Event()

        def end() -> None:
            over.set()
            self.end()

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join(LIMIT)
            if over.is_set():
                raise self._too_slow(seconds)

    def end(self) -> None:
        """Kills it and what it has started: children, orphans of its session, and whoever holds its pipes."""
        killed: set[int] = set()
        while found := set(self._living()) - killed:
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            killed |= found

    def _living(self) -> Iterator[int]:
        if self.returncode is None:  # else the number may be another's
            yield self.pid
            yield from (one.pid for one in descendants(self.pid) if not one.has_ended)
        states = [os.fstat(pipe.fileno()) for pipe in (self.stdout, self.stderr) if pipe and not pipe.closed]
        yield from writers({one.st_ino for one in states if stat.S_ISFIFO(one.st_mode)})

    def _too_slow(self, limit: float) -> subprocess.TimeoutExpired:
        self._was_ended = True
        self.end()
        out, err = None, None
        with suppress(subprocess.TimeoutExpired, ValueError):  # ValueError: its stdin was closed before
            out, err = super().communicate(timeout=_LAST_WORDS)
        error = subprocess.TimeoutExpired(self.args, limit, out, err)
        _note(error, out, err)
        return error


def run_limited(
    command: Any,
    *,
    input: Any = None,  # noqa: A002
    capture_output: bool = False,
    check: bool = False,
    timeout: float = LIMIT,
    **more: Any,
) -> subprocess.CompletedProcess[Any]:
    """`subprocess.run` with a limit. What `check` raises, CalledProcessError, has the command's last words too."""
    more |= {"stdin": PIPE} if input is not None else {}
    more |= {"stdout": PIPE, "stderr": PIPE} if capture_output else {}
    with Child(command, **more) as child:
        out, err = child.communicate(input, timeout)
    if check and child.returncode:
        error = subprocess.CalledProcessError(child.returncode, command, out, err)
        _note(error, out, err)
        raise error
    return subprocess.CompletedProcess(command, child.returncode, out, err)


def _note(error: BaseException, *printed: str | bytes | None) -> None:
    for words in printed:
        if words:
            error.add_note(words if isinstance(words, str) else words.decode("utf-8", "replace"))
