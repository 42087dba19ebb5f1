"""The processes of a board, or of the emulator's agent on this machine, by what they are to archloom."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.services.boards import Board

_PROC = Path("/proc")
_BULK = ("context", "image", "load", "purge", "job")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """`pid` is this machine's number, `inner` the board's. `state` is proc(5)'s letter."""

    pid: int
    inner: int
    parent: int
    state: str
    command: str

    @property
    def is_agent(self) -> bool:
        return "archloom-agent" in self.command and ".pyz" in self.command

    @property
    def name(self) -> str:
        return self.command.split(" ")[0].rpartition("/")[2]


def processes_of(board: Board) -> list[Process]:
    """Those of the board itself; what runs in its containers is not among them, and neither is its first process."""
    space = (_PROC / str(board.pid) / "ns/pid").readlink()
    return [one for one in _all() if _space(one.pid) == space and one.inner != 1]


def processes_below(folder: Path) -> list[Process]:
    """Those on this machine whose command names the folder, or a file in it."""
    return [one for one in _all() if str(folder) in one.command]


def jobs(folders: Collection[Path], among: Collection[Process]) -> list[Process]:
    """The processes that run these jobs, and have not ended."""
    pids = set()
    for folder in folders:
        with suppress(OSError, ValueError, KeyError):
            pids.add(json.loads((folder / "process.json").read_bytes())["pid"])
    return [one for one in among if one.inner in pids and one.is_agent]


def serves(among: Collection[Process], without: Collection[Process]) -> list[Process]:
    """The agents that answer a control channel, with the processes that start jobs for them."""
    spared = {one.pid for one in without}
    return [one for one in among if one.is_agent and one.command.endswith(" serve") and one.pid not in spared]


def programs(among: Collection[Process], *names: str) -> list[Process]:
    return [one for one in among if one.name in names]


def send(processes: Collection[Process], number: signal.Signals) -> None:
    for one in processes:
        with suppress(ProcessLookupError):
            os.kill(one.pid, number)


def with_children(found: Collection[Process], among: Collection[Process]) -> list[Process]:
    """These, and all that they have started."""
    family = {one.pid for one in found}
    while more := [one.pid for one in among if one.pid not in family and one.parent in family]:
        family |= set(more)
    return [one for one in among if one.pid in family]


def lives(process: Process) -> bool:
    found = _read(_PROC / str(process.pid))
    return found is not None and found.command == process.command and found.state not in "ZX"


def has_stopped(process: Process) -> bool:
    found = _read(_PROC / str(process.pid))
    return found is not None and found.state == "T"


def all_are(processes: Collection[Process], what: Callable[[Process], bool]) -> bool:
    """Whether there were some, and each is so."""
    return bool(processes) and all(map(what, processes))


def _all() -> Iterator[Process]:
    for folder in _PROC.glob("[0-9]*"):
        if found := _read(folder):
            yield found


def _read(folder: Path) -> Process | None:
    with suppress(OSError):
        words = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        status = (folder / "status").read_text("utf-8", "replace")
        inner = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1]
        command = (folder / "cmdline").read_bytes().decode("utf-8", "replace").replace("\0", " ").strip()
        if words[0] not in "ZX" and command:
            pid = int(folder.name)
            return Process(pid=pid, inner=int(inner), parent=int(words[1]), state=words[0], command=command)
    return None


def _space(pid: int) -> Path | None:
    with suppress(OSError):
        return (_PROC / str(pid) / "ns/pid").readlink()
    return None
