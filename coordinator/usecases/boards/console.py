"""The person at the terminal, as far as enrolment needs one."""

from __future__ import annotations

from typing import Protocol


class Console(Protocol):
    """`is_there`: somebody can be asked. A question that nobody answers is answered with no."""

    @property
    def is_there(self) -> bool: ...

    def say(self, text: str) -> None: ...

    def agrees(self, question: str) -> bool:
        """Yes or no; no where nothing is typed."""
        ...

    def password(self, prompt: str) -> str:
        """What was typed, unseen."""
        ...
