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

    `state` is archloom's state folder, `clock` returns epoch seconds, `holder` is `user@machine`. `began` is when the
    user's command began, by `clock`: before anything was imported; None where that is unknown.
    """

    environ: dict[str, str]
    home: Path
    folder: Path
    state: Path
    clock: Callable[[], float]
    holder: str
    began: float | None = None

    @property
    def log_files(self) -> tuple[str, ...]:
        """The absolute path of the file that ARCHLOOM_LOG names; empty without one."""
        name = self.environ.get(LOG_FILE, "")
        return (str(self.folder / name),) if name else ()
