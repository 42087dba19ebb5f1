"""The processes that one has started, as the kernel lists them, and those that hold a pipe open."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """`age` is in seconds. `command` is the whole line, or the program's name in brackets once it has ended."""

    pid: int
    parent: int
    session: int
    age: float
    has_ended: bool
    command: str

    def __str__(self) -> str:
        return f"pid {self.pid}, {self.age:.0f} s: {self.command}"


def descendants(pid: int) -> list[Process]:
    """Children of a process, theirs, and orphans in a session that one of these leads; in the order of their age."""
    others = [one for one in _processes() if one.pid != pid]
    family, found = {pid}, []
    # An orphan has lost its parent and keeps its session. In the session of the tests themselves are too many others.
    sessions = {pid} - {os.getsid(0)}
    while more := [one for one in others if one not in found and (one.parent in family or one.session in sessions)]:
        found += more
        family |= {one.pid for one in more}
        sessions |= {one.session for one in more if one.session == one.pid}
    return sorted(found, key=lambda one: (-one.age, one.pid))


def writers(pipes: Collection[int]) -> set[int]:
    """The other processes that can write into one of these pipes, which are given by their inodes."""
    names = {f"pipe:[{inode}]" for inode in pipes}
    found = set()
    for link in _PROC.glob("[0-9]*/fd/*") if names else ():
        with suppress(OSError):
            if str(link.readlink()) in names and link.lstat().st_mode & stat.S_IWUSR:
                found.add(int(link.parts[2]))
    return found - {os.getpid()}


def _processes() -> Iterator[Process]:
    now = float((_PROC / "uptime").read_text().split()[0])
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            before, _, after = (folder / "stat").read_text("utf-8", "replace").rpartition(")")
            words = after.split()  # from the third field of proc(5) on
            line = (folder / "cmdline").read_bytes().decode("utf-8", "replace").replace("\0", " ").strip()
            yield Process(
                pid=int(folder.name),
                parent=int(words[1]),
                session=int(words[3]),
                age=now - int(words[19]) / _TICK,
                has_ended=words[0] in {"Z", "X"},
                command=line or f"[{before.partition('(')[2]}]",
            )
