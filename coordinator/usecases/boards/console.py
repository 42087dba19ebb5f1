"""The user's terminal, as an interface for enrolment."""

from __future__ import annotations

from typing import Protocol


class Console(Protocol):
    """`is_there`: there is a terminal, so the user can be asked. Without an answer, `agrees` returns False."""

    @property
    def is_there(self) -> bool: ...

    def say(self, text: str) -> None: ...

    def agrees(self, question: str) -> bool:
        """Ask a yes-or-no question; an empty input means no."""
        ...

    def password(self, prompt: str) -> str:
        """Ask for a password, without echo."""
        ...
