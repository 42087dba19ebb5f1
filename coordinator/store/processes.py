"""Which process drives a run, and whether it still does.

A pid alone proves nothing: it is reused, it means nothing after a reboot, and in a container it is counted anew.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from coordinator.domain.run.lease import Driver

_PROC = Path("/proc")


def this_driver(holder: str, token: str) -> Driver:
    """This process, as the driver of a run."""
    pid = os.getpid()
    return Driver(token=token, holder=holder, pid=pid, started=_started(pid) or "", boot_id=_boot_id())


def is_alive(driver: Driver) -> bool | None:
    """Whether the driver's very process lives; None where that cannot be told from here: another machine, another
    boot, a container, a kernel without /proc."""
    if not driver.boot_id or driver.boot_id != _boot_id():
        return None
    started = _started(driver.pid)
    if started is None and _is_hidden(driver.pid):
        return None
    return started == driver.started


def _boot_id() -> str:
    """The boot, and the space its pids are counted in; '' where the kernel says neither."""
    with suppress(OSError):
        boot = (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    return ""


def _started(pid: int) -> str | None:
    """Clock ticks since boot; None where no such process lives. A zombie does not: it may never be reaped."""
    try:
        text = (_PROC / str(pid) / "stat").read_text("utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the command's name in parentheses, and may hold spaces and parentheses itself.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else fields[19]


def _is_hidden(pid: int) -> bool:
    """Whether a process has this pid after all: /proc mounted with `hidepid` shows a user only their own."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False
