"""The one way an operation of the agent fails: a code for programs, a sentence for people."""

from __future__ import annotations


class AgentError(Exception):
    """Ends a request with an `error` frame: `code` and `message`, and whatever `detail` the code promises."""

    def __init__(self, code: str, message: str, **detail: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.detail = detail
