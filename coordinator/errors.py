"""The errors of archloom: message, hint and exit code.

There is one class per exit code, not per cause: the message says what went wrong, the hint says what to do, and `code`
(a short word such as `denied` or `clock`) is set where a program has to tell causes apart.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import ClassVar


class Exit(IntEnum):
    """The exit codes: a stable interface for scripts."""

    DONE = 0
    BUG = 1
    USAGE = 2
    NO_HOST = 3
    BUILD_FAILED = 4
    LOST = 5
    REGISTRY = 6
    HELD = 7
    TIMED_OUT = 124  # the exit code of timeout(1)
    INTERRUPTED = 130


class ArchloomError(Exception):
    """A failure to show to the user: `message` says what failed and on which object, `hint` says what to do.

    `hint` may have several lines (lines to paste). `code` is stable and machine-readable.
    """

    exit_code: ClassVar[Exit] = Exit.BUG

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


class UsageError(ArchloomError):
    """The configuration, the arguments or a file from the user is wrong."""

    exit_code = Exit.USAGE


class NoHostError(ArchloomError):
    """No host of the inventory can ever build a requested platform."""

    exit_code = Exit.NO_HOST


class BuildFailedError(ArchloomError):
    """The build itself failed: a fault of the Dockerfile."""

    exit_code = Exit.BUILD_FAILED


class LostError(ArchloomError):
    """A host, engine, disk, the network or the coordinator failed; the same build may succeed on another host."""

    exit_code = Exit.LOST


class RegistryError(ArchloomError):
    """The registry refused a request or has other content than expected, or the image is not the requested one.

    `registry` is its name in references, empty where the error is about an image; `retry_after` is the seconds that it
    asks to wait, 0 where it names none; `waited` is for how many seconds it gave no answer.
    """

    exit_code = Exit.REGISTRY

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str = "",
        registry: str = "",
        retry_after: float = 0.0,
        waited: float = 0.0,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.registry = registry
        self.retry_after = retry_after
        self.waited = waited


class RegistryCode(StrEnum):
    """The codes of RegistryError by which archloom decides what to do next; other codes are for the user's scripts."""

    BLOB_UNKNOWN = "blob_unknown"
    BROKEN = "broken"  # the connection broke while a body was read
    CONFLICT = "conflict"  # a tag is not what was put there
    CORRUPT = "corrupt"  # bytes arrived that do not have the digest by which they were asked for
    DENIED = "denied"
    IMMUTABLE = "immutable"  # the repository does not let a tag move
    INVALID = "invalid"  # it refuses the name or the content
    NO_REGISTRY = "no_registry"  # what answers is not a registry
    TOO_LARGE = "too_large"
    UNAUTHORIZED = "unauthorized"
    UNAVAILABLE = "unavailable"
    UNREACHABLE = "unreachable"
    UPLOAD_LOST = "upload_lost"


class DrivenElsewhereError(ArchloomError):
    """Another coordinator drives the run. `code`: `held` where it had the lease first, `taken` where it took over."""

    exit_code = Exit.HELD


class TimedOutError(ArchloomError):
    """The time limit of a wait was reached; nothing is known to have failed."""

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
    """Return the exit code to report for several failures: 6 before 4 before 5 before 3; DONE for an empty list."""
    return next((code for code in _PRECEDENCE if code in codes), Exit.DONE)


def of_exit(exit_code: int, message: str, *, hint: str = "", code: str = "") -> ArchloomError:
    """Return the error with this exit code, which a run or another process that drove it ended with."""
    kinds = (
        UsageError,
        NoHostError,
        BuildFailedError,
        LostError,
        RegistryError,
        DrivenElsewhereError,
        InterruptedRunError,
    )
    kind = next((kind for kind in kinds if kind.exit_code == exit_code), ArchloomError)
    return kind(message, hint=hint, code=code)
