"""Sanitize untrusted text for a terminal: output of builds, and text from hosts, files and registries."""

from __future__ import annotations

import re

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def visible(line: str) -> str:
    """Return the line without colours, with every other control character but the tab escaped, also line breaks."""
    plain = _COLOUR.sub("", line)
    return "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in plain)


def visible_text(text: str) -> str:
    """Apply `visible` to each line of the text."""
    return "\n".join(map(visible, text.split("\n")))
