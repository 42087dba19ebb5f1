"""Identify the process that drives a run, and tell whether it is alive.

A pid alone does not identify a process: pids are reused, also after a reboot, and each PID namespace has its own.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from coordinator.domain.run.lease import Driver

_PROC = Path("/proc")


def this_driver(holder: str, token: str) -> Driver:
    """Return this process as the driver of a run."""
    pid = os.getpid()
    return Driver(token=token, holder=holder, pid=pid, started=_started(pid) or "", boot_id=_boot_id())


def is_alive(driver: Driver) -> bool | None:
    """Return whether the driver's process is alive; None where this process cannot know: on another machine, after
    another boot, in another PID namespace, without /proc or where /proc hides it."""
    if not driver.boot_id or driver.boot_id != _boot_id():
        return None
    started = _started(driver.pid)
    if started is None and _is_hidden(driver.pid):
        return None
    return started == driver.started


def _boot_id() -> str:
    """Return the boot id and the PID namespace; '' where /proc does not provide them."""
    with suppress(OSError):
        boot = (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    return ""


def _started(pid: int) -> str | None:
    """Return the start time in clock ticks since boot; None for a process that is not alive.

    A zombie is not alive: it may never be reaped.
    """
    try:
        text = (_PROC / str(pid) / "stat").read_text("utf-8", errors="replace")
    except OSError:
        return None
    # proc(5), stat: the second field is the command's name in parentheses, which may contain spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else fields[19]


def _is_hidden(pid: int) -> bool:
    """Return whether a process with this pid exists: /proc with `hidepid` shows only the user's own processes."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False
