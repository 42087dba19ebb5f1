"""Output of all commands: messages and errors for people go to stderr, data goes to stdout."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import sys
from collections.abc import Iterator, Mapping
from typing import TextIO

from coordinator.domain.visible import visible_text
from coordinator.errors import ArchloomError, UsageError

_RED, _BOLD, _PLAIN = "\x1b[1;31m", "\x1b[1m", "\x1b[0m"


def print_message(text: str) -> None:
    """Print a message to stderr. Write errors are ignored: the terminal may be gone."""
    _tell(visible_text(text))


def print_data(text: str, *, end: str = "\n") -> None:
    """Print data to stdout and flush. Raises UsageError where stdout cannot be written."""
    encoding = sys.stdout.encoding or "utf-8"
    with _translated():
        # A character that the encoding of stdout lacks, such as an arrow, is escaped instead of failing the output.
        print(text.encode(encoding, "backslashreplace").decode(encoding), end=end, flush=True)  # noqa: T201


def print_bytes(data: bytes) -> None:
    """Write bytes to stdout unchanged and flush. Raises UsageError where stdout cannot be written."""
    with _translated():
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def check_stdout() -> None:
    """Raise UsageError where stdout takes no data, before a command begins what it would then print.

    A stream that the parent process closed is no error: `main` has opened /dev/null for it.
    """
    hint = "redirect it to a file, or leave out what prints to it"
    if fcntl.fcntl(sys.stdout.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise UsageError("cannot write to standard output: it is open for reading only", hint=hint)
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        raise UsageError("cannot write to standard output: nobody reads it", hint=hint)


def print_json(value: object) -> None:
    """Print one JSON document to stdout, in ASCII so that it does not depend on the locale."""
    import json

    print_data(json.dumps(value, indent=2))


def print_error(error: ArchloomError) -> None:
    """Print `error: …` and `hint: …` to stderr, in colour where `in_colour` allows it."""
    red, bold, plain = (_RED, _BOLD, _PLAIN) if in_colour(sys.stderr, os.environ) else ("", "", "")
    _tell(f"{red}error:{plain} {_indented(error.message, 2)}")
    if error.hint:
        _tell(f"{bold}hint:{plain} {_indented(error.hint, 6)}")


def in_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether to use colour: on a terminal that supports it, unless NO_COLOR is set (no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        # Python would flush the buffer again at exit, and print its own error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        message = f"cannot write to standard output: {error.strerror}"
        raise UsageError(message, hint="the command itself has finished; see archloom runs") from error


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr)  # noqa: T201


def _indented(text: str, width: int) -> str:
    return visible_text(text).replace("\n", "\n" + " " * width)
