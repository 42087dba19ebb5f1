"""Diagnostic logs of SSH, agents, the broker and registries, with durations.

`-v` shows connections, agents and refused requests; `-vv` also every request. ARCHLOOM_LOG names a file that gets all
of it. The edges log to `archloom.<edge>`; they never log a secret, a header or a query.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from coordinator.cli.output import print_message
from coordinator.environment import LOG_FILE
from coordinator.errors import UsageError

_FLAGS = {"-v": 1, "--verbose": 1, "-vv": 2, "-vvv": 3}
_ROOT = "archloom"


def take_flags(words: Sequence[str]) -> tuple[list[str], int]:
    """Return the words without `-v` and `-vv` before `--`, and the verbosity: how many `v` they have."""
    end = words.index("--") if "--" in words else len(words)
    verbosity = sum(_FLAGS.get(word, 0) for word in words[:end])
    return [*(word for word in words[:end] if word not in _FLAGS), *words[end:]], verbosity


def start(verbosity: int, environ: Mapping[str, str]) -> None:
    """Start the logs to stderr and to ARCHLOOM_LOG, as requested. Raises UsageError for a file it cannot write."""
    handlers: list[logging.Handler] = []
    if verbosity:
        handlers.append(logging.StreamHandler(sys.stderr))
        handlers[0].setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)
    if environ.get(LOG_FILE):
        handlers.append(_file(environ[LOG_FILE]))
    for handler in handlers:
        handler.setFormatter(_Formatter())
        logging.getLogger(_ROOT).addHandler(handler)
    if handlers:
        logging.getLogger(_ROOT).setLevel(logging.DEBUG)
        logging.getLogger(_ROOT).propagate = False


def close_files() -> None:
    """Close the log files. Each is opened again for its next record, in the process that writes it."""
    for handler in logging.getLogger(_ROOT).handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()


def is_shown() -> bool:
    """Return whether diagnostics go to stderr: they would break a live view on the terminal."""
    streams = (handler for handler in logging.getLogger(_ROOT).handlers if type(handler) is logging.StreamHandler)
    return next(streams, None) is not None


def _file(path: str) -> logging.Handler:
    try:
        # Private by default: the log names hosts and registries.
        # O_NONBLOCK: a named pipe that nobody reads is an error, and not waited for.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        reason = "it is a named pipe that nobody reads" if error.errno == errno.ENXIO else error.strerror
        hint = f"export {LOG_FILE}=archloom.log"
        raise UsageError(f"{LOG_FILE}: cannot write {path}: {reason}", hint=hint, code="config") from error
    os.close(descriptor)
    return _LogFile(path, encoding="utf-8", errors="backslashreplace")


class _LogFile(logging.FileHandler):
    """A log file that may become unwritable: that is said once, and the command goes on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's signature
        logging.getLogger(_ROOT).removeHandler(self)
        print_message(f"warning: {LOG_FILE}: cannot write {self.baseFilename}: {sys.exc_info()[1]}; it ends here")
        with suppress(OSError):
            self.close()


class _Formatter(logging.Formatter):
    """Formats `12:03:04.567 ssh pi4: connected …`, in local time with milliseconds."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        edge = record.name.removeprefix(f"{_ROOT}.")
        return f"{clock}.{int(record.msecs):03d} {edge} {record.getMessage()}"
