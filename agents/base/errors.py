"""The only error type of the agent's operations: a code for programs, a message for people."""

from __future__ import annotations

from typing import Literal

# Every code the agent sends, in answers and in results. The coordinator's table of causes defines what follows from
# each code; `tests/cases/wire/codes.txt` keeps both lists equal.
Code = Literal[
    "bad_request",
    "base",
    "build",
    "busy",
    "cancelled",
    "case",
    "changed",
    "cut",
    "disk",
    "emulator",
    "engine",
    "internal",
    "loopback",
    "memory",
    "network",
    "no_context",
    "not_built",
    "reboot",
    "read_only",
    "refused",
    "resolve",
    "spec_differs",
    "started",
    "state",
    "tunnel",
    "unknown_job",
    "unreadable",
    "vanished",
]


class AgentError(Exception):
    """Ends a request with an `error` frame: `code`, `message`, and the fields in `detail` that the code defines."""

    def __init__(self, code: Code, message: str, **detail: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.detail = detail
