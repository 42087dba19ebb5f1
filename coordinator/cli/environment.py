"""The environment of a command: read from the process once, and passed on as a value."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from coordinator.domain.hosts.inventory import Inventory, builtin
from coordinator.domain.run.model import Run
from coordinator.environment import Environment
from coordinator.errors import UsageError
from coordinator.state.logs import state_folder
from coordinator.store.sqlite import Store


def read_environment() -> Environment:
    """Return the environment variables, folders, clock and holder name of this process."""
    environ = dict(os.environ)
    clock = even_clock(time.time, _elapsed)
    home = Path.home()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in some containers
        user = str(os.getuid())
    try:
        folder = Path.cwd()
    except FileNotFoundError as error:
        raise UsageError("the current folder no longer exists", hint="cd to a folder that does") from error
    return Environment(
        environ=environ,
        home=home,
        folder=folder,
        state=state_folder(environ, home),
        clock=clock,
        holder=f"{user}@{socket.gethostname()}",
        began=_process_began(clock()),
        system_clock=time.time,
    )


def even_clock(system: Callable[[], float], elapsed: Callable[[], float]) -> Callable[[], float]:
    """Return a clock that shows the system's time now, and later that of now and what has elapsed since.

    The system's clock may be set at any moment, by hours where a machine without a battery finds a time server.
    """
    began, at = system(), elapsed()
    return lambda: began + elapsed() - at


def _elapsed() -> float:
    """Return seconds that go on evenly, also while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _process_began(now: float) -> float | None:
    """Return when this process was started, in epoch seconds; None where the system does not tell.

    Durations that the user reads begin at Enter, as those of `time` do.
    """
    try:
        # proc(5): the fields after the program's name, which may hold spaces; the 22nd of all is the start time.
        ticks = int(Path("/proc/self/stat").read_text("utf-8").rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    return now - max(0.0, age)


def open_inventory(given: str | None, env: Environment) -> Inventory:
    """Return the inventory of `-i`, ARCHLOOM_INVENTORY or the default files; the built-in one where there is none."""
    from coordinator.config.locate import find
    from coordinator.config.parsed_inventory import load_again

    path = find(given, env.environ, env.folder, env.home)
    return builtin() if path is None else load_again(path, env.state)


def inventory_of(run: Run, given: str | None, env: Environment) -> Inventory:
    """Return the given inventory, else the one the run began with, as its file is now. Raises UsageError."""
    from coordinator.config.load import load

    if given is not None:
        return open_inventory(given, env)
    if not run.inventory:
        return builtin()
    path = Path(run.inventory)
    if not path.is_file():
        raise UsageError(f"the inventory of run {run.id} no longer exists: {path}", hint="give another: -i FILE")
    return load(path)


def run_named(prefix: str | None, store: Store) -> Run:
    """Return the run whose id begins with `prefix`; the newest run for None. Raises UsageError without one."""
    if prefix is not None:
        return store.find_run(prefix)
    newest = store.runs(limit=1)
    if not newest:
        raise UsageError("there is no run yet", hint="archloom build starts one")
    return newest[0]


def run_and_platform(run: str | None, platform: str | None) -> tuple[str | None, str | None]:
    """Return RUN and PLATFORM of a command line that may omit either: a run id never contains a slash."""
    return (None, run) if run and platform is None and "/" in run else (run, platform)
