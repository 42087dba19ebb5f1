"""The detached process of a job: who it is, whether it lives, and how what it left is ended.

A pid alone proves nothing: it is reused. A process is the same one when its pid, its start time and the boot are.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from agents.base import state

FILE = "process.json"


class Process(NamedTuple):
    """`start_time` is in clock ticks since boot (/proc/<pid>/stat, field 22). It leads its own process group."""

    pid: int
    start_time: int
    boot_id: str
    slot: int


def current(slot: int) -> Process:
    """This process."""
    pid = os.getpid()
    start = start_time(pid)
    if start is None:
        raise RuntimeError(f"/proc/{pid}/stat does not say when this process was started")
    return Process(pid, start, state.boot_id(), slot)


def write(folder: Path, process: Process) -> None:
    state.write_whole(folder / FILE, json.dumps(process._asdict()).encode())


def read(folder: Path) -> Process | None:
    """The process the job was started with; None where it was not started."""
    try:
        return Process(**json.loads((folder / FILE).read_bytes()))
    except FileNotFoundError:
        return None


def is_alive(process: Process) -> bool:
    """Whether this very process still runs. A zombie does not: in a container nobody may ever reap it."""
    return process.boot_id == state.boot_id() and start_time(process.pid) == process.start_time


def end_group(process: Process) -> None:
    """Kill the processes a job left behind, or all of it where it lives. Nothing that is not the job's is touched."""
    if process.boot_id != state.boot_id() or start_time(process.pid) not in {process.start_time, None}:
        return  # the number belongs to somebody else now
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def hang_up(pid: int, start: int) -> None:
    """End the sshd of a connection that is gone and that it still takes for alive: this frees what it holds.

    Nothing is done where the pid belongs to another process now, or is no sshd.
    """
    with suppress(OSError):
        is_sshd = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").startswith("sshd")
        if is_sshd and start_time(pid) == start:
            os.kill(pid, signal.SIGTERM)


def start_time(pid: int) -> int | None:
    """Clock ticks since boot; None where no such process lives."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command's name in parentheses, and may hold spaces and parentheses itself.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])
