"""What a login shell prints before the agent speaks, and the errors for one that does not start it.

sshd runs every command by the user's login shell, and bash reads `~/.bashrc` for it: one that starts another shell,
asks a question or does not end keeps the command from running.
"""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.domain.visible import visible_name
from coordinator.errors import LostError

NOT_STARTED = "agent"
MAX_NOISE_BYTES = 65536
_SHOWN_CHARS = 200
_RETURN = "let ~/.bashrc there return at its top where nobody types: [[ $- == *i* ]] || return"
_SHELL = "or give the login user a shell such as /bin/sh, and no ForceCommand; try: ssh HOST sh -c true"


def last_words(*texts: bytes | str) -> str:
    """Return the last line of each text that has one, shortened, joined by `; `; nothing where none has."""
    decoded = (text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in texts)
    lines = ([line.strip() for line in text.splitlines() if line.strip()][-1:] for text in decoded)
    return "; ".join(visible_name(line[0])[:_SHOWN_CHARS] for line in lines if line)


def hangs(subject: str, seconds: float, printed: str) -> LostError:
    """Return the error for a login shell that has not started a command so long after the login."""
    said = f"it printed: {printed}" if printed else "it printed nothing"
    return LostError(
        f"{subject}its login shell has not run a command in {seconds:.0f} s; {said}",
        hint=f"{_RETURN}\n{_SHELL}",
        code=NOT_STARTED,
    )


def prints_too_much(subject: str, printed: str) -> LostError:
    """Return the error for a login shell that prints more than `MAX_NOISE_BYTES` before it runs a command."""
    return LostError(
        f"{subject}its login shell prints more than {MAX_NOISE_BYTES >> 10} KiB before it runs a command: {printed}",
        hint=_RETURN,
        code=NOT_STARTED,
    )


def runs_nothing(subject: str, printed: str) -> LostError:
    """Return the error for a login shell that ended without running a command."""
    return LostError(
        f"{subject}its login shell does not run commands" + (f": {printed}" if printed else ""),
        hint=f"{_RETURN}\n{_SHELL}",
        code=NOT_STARTED,
    )


def no_python(subject: str, tried: Mapping[str, str]) -> LostError:
    """Return the error for a host without a Python that runs. `tried` is what each said, by its command."""
    if not tried:
        return LostError(
            f"{subject}there is no Python 3 there", hint="on the host: sudo apt install python3", code="python"
        )
    said = "; ".join(f"{command}: {words}" for command, words in tried.items())
    return LostError(
        f"{subject}no Python there can run the agent, which takes 3.9 or newer: {said}",
        hint="on the host: sudo apt install --reinstall python3-minimal; a version manager such as pyenv in ~/.bashrc\n"
        "is best set up only where somebody types: [[ $- == *i* ]] || return",
        code="python",
    )
