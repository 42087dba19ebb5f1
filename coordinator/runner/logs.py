"""Where the logs of a run are kept on this machine: a folder per run, a file per attempt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from coordinator.domain.platforms import Platform


def state_folder(environ: Mapping[str, str], home: Path) -> Path:
    """`$XDG_STATE_HOME/archloom`, by default `~/.local/state/archloom`."""
    base = environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else home / ".local" / "state") / "archloom"


def store_path(state: Path) -> Path:
    return state / "archloom.db"


def log_folder(state: Path, run_id: str) -> Path:
    return state / "runs" / run_id


def log_path(state: Path, run_id: str, platform: Platform, attempt: int) -> Path:
    """The log of one attempt, the same bytes as on the host."""
    return log_folder(state, run_id) / f"{platform.slug}-{attempt}.log"
