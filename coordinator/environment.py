"""The environment of this process, as a value. Only the command line reads it from the system."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# The file that gets the diagnostics, see coordinator/cli/diagnostics.py.
LOG_FILE = "ARCHLOOM_LOG"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The environment variables, the home folder and the working directory (`folder`) of this process.

    `state` is archloom's state folder, `holder` is `user@machine`. `clock` returns epoch seconds that go on evenly in
    this process; `wall_clock` returns those of `system_clock`, which may be set meanwhile, for comparison with other
    processes; by default it is `clock`. `began` is when the user's command began, by `clock`: before anything was
    imported; None where that is unknown.
    """

    environ: dict[str, str]
    home: Path
    folder: Path
    state: Path
    clock: Callable[[], float]
    holder: str
    began: float | None = None
    system_clock: Callable[[], float] | None = None

    @property
    def wall_clock(self) -> Callable[[], float]:
        return self.system_clock or self.clock

    @property
    def log_files(self) -> tuple[str, ...]:
        """The absolute path of the file that ARCHLOOM_LOG names; empty without one."""
        name = self.environ.get(LOG_FILE, "")
        return (str(self.folder / name),) if name else ()
