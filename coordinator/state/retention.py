"""The folders of runs on this machine: how large they are, and what goes when they are too many."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from coordinator.config.env_vars import log_budget
from coordinator.domain.run.events import Emit, Notice
from coordinator.domain.run.log_budget import Kept, over_budget
from coordinator.environment import Environment
from coordinator.errors import UsageError
from coordinator.state.logs import log_folder, runs_folder
from coordinator.store.sqlite import Store


def make_room(env: Environment, store: Store, emit: Emit) -> None:
    """Drops the folders of the oldest ended runs beyond the budget; to be called when a run begins.

    The runs stay in the store. Raises UsageError for a budget that is no size.
    """
    budget = log_budget(env.environ)
    if store.path is None:
        # Without history nobody can tell whose folders they are.
        return
    found = list(_folders(env.state))
    if sum(size for _, size, _ in found) <= budget:
        return
    kept = [Kept(run=run, size=size, at=at, ended=_ended(store, run)) for run, size, at in found]
    drop_folders(env.state, over_budget(kept, budget, env.clock()), emit)


def stray_folders(state: Path, store: Store, now: float) -> tuple[str, ...]:
    """Folders of runs that the store does not know, and that nobody writes to."""
    kept = (Kept(run=run, size=size, at=at, ended=_ended(store, run)) for run, size, at in _folders(state))
    return tuple(log.run for log in kept if log.ended is None and log.may_go(now))


def measure_folders(state: Path, runs: Iterable[str]) -> int:
    """The bytes of these runs' folders."""
    return sum(_measure(log_folder(state, run))[0] for run in runs)


def drop_folders(state: Path, runs: Iterable[str], emit: Emit) -> int:
    """Deletes the folders of these runs; the bytes that are free by that. What cannot be deleted is told and stays."""
    freed = 0
    for run in runs:
        folder = log_folder(state, run)
        size, _ = _measure(folder)
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            emit(Notice(f"the logs of run {run} cannot be deleted: {error.filename}: {error.strerror}"))
            continue
        freed += size
    return freed


def _folders(state: Path) -> Iterator[tuple[str, int, float]]:
    """Run, bytes, and when it was last written."""
    try:
        folders = [path for path in runs_folder(state).iterdir() if path.is_dir()]
    except OSError:
        return
    for folder in folders:
        yield folder.name, *_measure(folder)


def _measure(folder: Path) -> tuple[int, float]:
    """Bytes of all its files, and the time of the latest."""
    size, at = 0, 0.0
    try:
        for path in (folder, *folder.iterdir()):
            found = path.lstat()
            size, at = size + found.st_size, max(at, found.st_mtime)
    except OSError:
        pass  # somebody else deletes it just now
    return size, at


def _ended(store: Store, run: str) -> bool | None:
    if store.has_ended(run):
        return True
    try:
        store.run(run)
    except UsageError:
        return None
    return False
