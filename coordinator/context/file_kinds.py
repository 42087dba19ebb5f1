"""What an entry of a folder is, in words."""

from __future__ import annotations

import stat

_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}  # fmt: skip


def kind_of(mode: int) -> str:
    """Return what an entry with this mode is that is no file."""
    return _KINDS.get(stat.S_IFMT(mode), "no file")
