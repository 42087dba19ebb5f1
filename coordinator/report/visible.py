"""What others wrote, made fit for a terminal: builds, boards, file names and registries say what they like."""

from __future__ import annotations

import re

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def visible(line: str) -> str:
    """The line without colours, and with every other control character spelled out, the ends of lines too."""
    plain = _COLOUR.sub("", line)
    return "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in plain)


def visible_text(text: str) -> str:
    """The same of several lines."""
    return "\n".join(map(visible, text.split("\n")))
