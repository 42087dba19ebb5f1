"""Where the logs of a run are kept on this machine: a folder per run, a file per attempt."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TextIO

from coordinator.domain.events import Event, Notice
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
    """The log of one attempt, as its host told it."""
    return log_folder(state, run_id) / f"{platform.slug}-{attempt}.log"


@contextlib.contextmanager
def kept_log(path: Path, emit: Callable[[Event], None]) -> Iterator[Callable[[str], None]]:
    """Keeps a log as it comes. A disk that takes no more costs the rest of the log, not the build."""
    with contextlib.ExitStack() as stack:
        file: TextIO | None = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = stack.enter_context(path.open("w", encoding="utf-8", errors="replace", newline=""))
        except OSError as error:
            emit(Notice(f"the log is not kept: {path}: {error.strerror}"))

        def keep(text: str) -> None:
            nonlocal file
            if file is None:
                return
            try:
                file.write(text)
                file.flush()
            except OSError as error:
                file = None
                emit(Notice(f"the rest of the log is not kept: {path}: {error.strerror}"))

        yield keep
