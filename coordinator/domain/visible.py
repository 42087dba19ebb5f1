"""Sanitize untrusted text for a terminal: output of builds, and text and names from hosts, files and registries."""

from __future__ import annotations

import re
import shlex

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def visible(line: str) -> str:
    """Return the line without colours, with every other control character but the tab escaped, also line breaks."""
    plain = _COLOUR.sub("", line)
    return "".join(char if char == "\t" else _escaped(char) for char in plain)


def visible_text(text: str) -> str:
    """Apply `visible` to each line of the text."""
    return "\n".join(map(visible, text.split("\n")))


def visible_name(name: str) -> str:
    r"""Return the name of a file, on one line, with all that a terminal cannot show escaped, also colours and tabs.

    A byte that is not UTF-8, in the name a surrogate (`surrogateescape`), is `\xff`.
    """
    return "".join(map(_escaped, name))


def file_word(path: object) -> str:
    """Return the path of a file or folder as a word of a command to paste, with the home folder's `~` as it is.

    A name that a terminal cannot show is the placeholder FILE: escaped, it would name another file.
    """
    name = str(path)
    if not name.isprintable():
        return "FILE"
    if name.startswith("~/"):
        return "~/" + (shlex.quote(name[2:]) if name[2:] else "")
    return shlex.quote(f"./{name}" if name.startswith("-") else name)


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    # PEP 383: the byte 0xff is decoded to U+DCFF.
    return f"\\x{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else repr(char)[1:-1]
