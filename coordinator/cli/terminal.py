"""Questions to the user at the terminal."""

from __future__ import annotations

import getpass
import sys

from coordinator.cli.output import print_message
from coordinator.errors import InterruptedRunError

_YES = frozenset({"y", "yes"})


class Terminal:
    """Asks on stderr and reads stdin: stdout is for the data of a command, and may be redirected."""

    @property
    def is_there(self) -> bool:
        return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()

    def say(self, text: str) -> None:
        print_message(text)

    def agrees(self, question: str) -> bool:
        """Ask, and return whether `y` or `yes` was typed; False without a terminal. Raises InterruptedRunError."""
        if not self.is_there:
            return False
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201
        try:
            answer = sys.stdin.readline()
        except KeyboardInterrupt:
            answer = ""
        if not answer:  # Ctrl-C or Ctrl-D
            print_message("")
            raise InterruptedRunError("no answer was given; nothing was changed")
        return answer.strip().lower() in _YES

    def password(self, prompt: str) -> str:
        try:
            return getpass.getpass(prompt, stream=sys.stderr)
        except (EOFError, KeyboardInterrupt):
            print_message("")
            raise InterruptedRunError("no password was typed; nothing was changed") from None
