"""The one way an operation of the agent fails: a code for programs, a sentence for people."""

from __future__ import annotations

from typing import Literal

# Every code the agent sends, in answers and in results. The coordinator's table of causes says what follows from each;
# `tests/cases/wire/codes.txt` holds both sides to the same words.
Code = Literal[
    "bad_request",
    "base",
    "build",
    "busy",
    "cancelled",
    "changed",
    "cut",
    "disk",
    "emulator",
    "engine",
    "internal",
    "loopback",
    "memory",
    "no_context",
    "not_built",
    "reboot",
    "receiving",
    "refused",
    "spec_differs",
    "started",
    "state",
    "tunnel",
    "unknown_job",
    "unreadable",
    "vanished",
]


class AgentError(Exception):
    """Ends a request with an `error` frame: `code` and `message`, and whatever `detail` the code promises."""

    def __init__(self, code: Code, message: str, **detail: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.detail = detail
