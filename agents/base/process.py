"""The detached process of a job: its identity, whether it is alive, and how to kill what it left running.

The kernel reuses pids, so a pid alone identifies nothing: pid, start time and boot id together identify a process.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from agents.base import files, state
from agents.base.errors import AgentError
from agents.base.fields import field
from agents.base.json_file import read_object

FILE = "process.json"


class Process(NamedTuple):
    """A job's process, which leads its own process group.

    `start_time` is in clock ticks since boot (/proc/<pid>/stat, field 22).
    """

    pid: int
    start_time: int
    boot_id: str
    slot: int


def current(slot: int) -> Process:
    """Return the identity of this process, which holds the slot with this number."""
    pid = os.getpid()
    start = start_time(pid)
    if start is None:
        raise RuntimeError(f"/proc/{pid}/stat does not say when this process was started")
    return Process(pid, start, state.boot_id(), slot)


def write(folder: Path, process: Process) -> None:
    files.write_whole(folder / FILE, json.dumps(process._asdict()).encode())


def read(folder: Path, name: str = FILE) -> Process | None:
    """Return the process the job was started with; None where the job was not started.

    Where the file is damaged it is a process that is dead: the job was started, and must not be started again.
    """
    try:
        (folder / name).lstat()
    except FileNotFoundError:
        return None
    fields = read_object(folder / name)
    try:
        return Process(*(field(fields, name, kind) for name, kind in zip(Process._fields, (int, int, str, int))))
    except AgentError:
        return Process(0, 0, "", 0)


def is_alive(process: Process) -> bool:
    """Whether exactly this process still runs. A zombie counts as dead: in a container it may never be reaped."""
    return process.boot_id == state.boot_id() and start_time(process.pid) == process.start_time


def await_end(process: Process, seconds: float, is_over: Callable[[], bool] = lambda: False, poll: float = 0.1) -> None:
    """Return when this process ends, after `seconds`, or when `is_over`, which is asked every `poll` seconds."""
    until = time.monotonic() + seconds
    try:
        # Linux 5.3 (pidfd_open(2)); before it, only the time counts.
        end = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, poll))
            if is_over():
                return
        return
    try:
        if is_alive(process):
            while (left := until - time.monotonic()) > 0:
                if select.select([end], [], [], min(left, poll))[0] or is_over():
                    return
    finally:
        os.close(end)


def end_group(process: Process) -> None:
    """Kill the job's process group: what a dead job left running, or the whole job. No other process is touched."""
    if process.boot_id != state.boot_id() or start_time(process.pid) not in {process.start_time, None}:
        return  # the host was rebooted, or the pid was reused
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def end(process: Process) -> None:
    """Kill exactly this process, unless it is this one."""
    if process.pid != os.getpid() and is_alive(process):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def hang_up(pid: int, start: int, agent: int) -> None:
    """Terminate the sshd of a broken connection that sshd still takes for alive, to free what the connection holds.

    Its agent goes on where it was stopped, to end and let its locks go. Does nothing where a pid belongs to another
    process now: the first is to be an sshd that began at `start`, the second an agent.
    """
    with suppress(OSError):
        is_sshd = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").startswith("sshd")
        if is_sshd and start_time(pid) == start:
            os.kill(pid, signal.SIGTERM)
    with suppress(OSError):
        if b"archloom-agent" in Path(f"/proc/{agent}/cmdline").read_bytes():
            os.kill(agent, signal.SIGCONT)


def start_time(pid: int) -> int | None:
    """Return the start time in clock ticks since boot; None where the process is dead or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc(5): the second field is the command's name in parentheses, and may contain spaces and parentheses itself.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])
