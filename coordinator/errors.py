"""Every way archloom can fail: what it says, what to do next, and the exit code it ends with.

A class per exit code, not per cause: what went wrong is in the message, what to do is in the hint, and a
`code` (a short word such as `denied` or `clock`) is there where a program has to tell causes apart.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class Exit(IntEnum):
    """Exit codes, part of the contract with scripts."""

    DONE = 0
    BUG = 1
    USAGE = 2
    NO_HOST = 3
    BUILD_FAILED = 4
    LOST = 5
    REGISTRY = 6
    HELD = 7
    TIMED_OUT = 124  # as timeout(1) has it
    INTERRUPTED = 130


class ArchloomError(Exception):
    """A failure with a sentence for a person: `message` says what and which, `hint` says what to do.

    `hint` may have several lines (lines to paste). `code` is stable and machine-readable.
    """

    exit_code: ClassVar[Exit] = Exit.BUG

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


class UsageError(ArchloomError):
    """Configuration, arguments or a file the user gave are wrong."""

    exit_code = Exit.USAGE


class NoHostError(ArchloomError):
    """No listed host could ever build a wanted platform."""

    exit_code = Exit.NO_HOST


class BuildFailedError(ArchloomError):
    """A build ended with an error of its own: the Dockerfile's fault."""

    exit_code = Exit.BUILD_FAILED


class LostError(ArchloomError):
    """A host, its engine, its disk, the network or this machine failed; the same build may succeed elsewhere."""

    exit_code = Exit.LOST


class RegistryError(ArchloomError):
    """The registry refused or disagreed, or what was built is not what was asked."""

    exit_code = Exit.REGISTRY


class HeldError(ArchloomError):
    """Another coordinator drives the run: `held` when it was there before us, `taken` when it took our place."""

    exit_code = Exit.HELD


class TimedOutError(ArchloomError):
    """What was waited for did not come in the time that was given; nothing is known to be wrong."""

    exit_code = Exit.TIMED_OUT


class InterruptedRunError(ArchloomError):
    """The user stopped the run."""

    exit_code = Exit.INTERRUPTED


_PRECEDENCE = (
    Exit.INTERRUPTED,
    Exit.BUG,
    Exit.USAGE,
    Exit.HELD,
    Exit.REGISTRY,
    Exit.BUILD_FAILED,
    Exit.LOST,
    Exit.NO_HOST,
    Exit.TIMED_OUT,
)


def worst(codes: list[Exit]) -> Exit:
    """The exit code that speaks for several causes: 6 before 4 before 5 before 3; DONE when there is none."""
    return next((code for code in _PRECEDENCE if code in codes), Exit.DONE)


def of_exit(exit_code: int, message: str, *, hint: str = "", code: str = "") -> ArchloomError:
    """The error whose exit code is this: that of a run, or of another process that drove it."""
    kinds = (UsageError, NoHostError, BuildFailedError, LostError, RegistryError, HeldError, InterruptedRunError)
    kind = next((kind for kind in kinds if kind.exit_code == exit_code), ArchloomError)
    return kind(message, hint=hint, code=code)
