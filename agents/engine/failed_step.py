"""Finds the build step that failed in a log of BuildKit's plain format, and what its program printed last.

BuildKit puts the step's number before every line of a program, so no program can print the line of an error itself.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

_KEPT_LINES = 40
_NUMBERED = re.compile(r"#(\d+) (.*)", re.DOTALL)
_OUTPUT = re.compile(r"\d+\.\d+ ?")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_ERROR = "ERROR: "
_EXIT_CODE = re.compile(r": exit code: (\d+)\Z")
# What shells and build programs print when another program has failed: it tells nothing of why.
_CONSEQUENCE = re.compile(
    r"\s*\Z"
    r"|g?make(?:\[\d+\])?: (?:\*\*\*|Leaving directory|Target .* not remade)"
    r"|ninja: build stopped"
    r"|(?:/bin/)?(?:ba|da)?sh: (?:line )?\d+: .*(?:Segmentation fault|Aborted|Illegal instruction|Bus error|Trap)"
    r"|(?:tar|gzip|xz|bzip2|unzip|bsdtar|gpg): "
    r"|ERROR: (?:subprocess-exited-with-error|Failed building wheel|Could not build wheels)"
    r"|(?:npm|pnpm|yarn)(?: ERR!| error|: )|error Command failed"
    r"|dpkg: error processing|Errors were encountered while processing| [a-z0-9][a-z0-9+.:-]+\Z|E: Sub-process "
    r"|(?: installed \S+ package \S+ \S+ script )?subprocess returned error exit status"
    r"|subprocess\.CalledProcessError|error: command .* failed with exit (?:code|status)"
)


class FailedStep(NamedTuple):
    """`error` is BuildKit's, `exit_code` that of the step's program, None where there was none.

    `lines` are the last that the program printed, at most 40.
    """

    title: str
    error: str
    exit_code: int | None
    lines: tuple[str, ...]

    def ended_by(self, is_cause: Callable[[str], bool], consequence: re.Pattern[str] | None = None) -> str:
        """Return the last line that is a cause, where only lines follow that result from it; else "".

        `consequence` matches such lines, beside those of shells and of programs that run others.
        """
        for line in reversed(self.lines):
            if is_cause(line):
                return line.strip()
            if not _CONSEQUENCE.match(line) and not (consequence and consequence.match(line)):
                return ""
        return ""


def failed_step(log: str) -> FailedStep | None:
    """Return the first step with an error in this end of a log; None where there is none."""
    titles: dict[str, str] = {}
    printed: dict[str, deque[str]] = {}
    for line in log.splitlines():
        match = _NUMBERED.match(line)
        if match is None:
            continue
        number, text = match.groups()
        output = _OUTPUT.match(text)
        if text.startswith(_ERROR):
            error = text[len(_ERROR) :]
            code = _EXIT_CODE.search(error)
            lines = tuple(printed.get(number, ()))
            return FailedStep(titles[number], error, int(code[1]) if code else None, lines)
        if output and number in titles:
            printed.setdefault(number, deque(maxlen=_KEPT_LINES)).append(_COLOUR.sub("", text[output.end() :]))
        titles.setdefault(number, text)
    return None
