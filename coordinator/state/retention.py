"""The run folders on the coordinator: the deletion of the oldest ones beyond the budget."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from coordinator.config.env_vars import log_budget
from coordinator.domain.run.events import Emit, Notice
from coordinator.domain.run.log_budget import RunFolder, over_budget
from coordinator.environment import Environment
from coordinator.errors import UsageError
from coordinator.state.folder_sizes import all_measured, folder_sizes, measure
from coordinator.state.logs import log_folder
from coordinator.store.sqlite import Store


def make_room(env: Environment, store: Store, emit: Emit) -> None:
    """Delete the folders of the oldest ended runs beyond the budget. Called when a run begins.

    The runs stay in the store. Raises UsageError where the configured budget is not a size.
    """
    budget = log_budget(env.environ)
    if store.path is None:
        # A store in memory does not know which runs have ended.
        return
    folders = folder_sizes(env.state, store.has_ended, env.clock())
    if sum(folder.size for folder in folders) <= budget:
        return
    kept = [RunFolder(run=run, size=size, at=at, ended=_ended(store, run)) for run, size, at in folders]
    drop_folders(env.state, over_budget(kept, budget, env.clock()), emit)


def stray_folders(state: Path, store: Store, now: float) -> tuple[str, ...]:
    """Return the folders that belong to no run of the store and were not written to for a day."""
    kept = (RunFolder(run=run, size=size, at=at, ended=_ended(store, run)) for run, size, at in all_measured(state))
    return tuple(log.run for log in kept if log.ended is None and log.may_go(now))


def measure_folders(state: Path, runs: Iterable[str]) -> int:
    """Return the size of these runs' folders, in bytes."""
    return sum(measure(log_folder(state, run)).size for run in runs)


def drop_folders(state: Path, runs: Iterable[str], emit: Emit) -> int:
    """Delete the folders of these runs; return the freed bytes. A folder that cannot be deleted gives a notice."""
    freed = 0
    for run in runs:
        folder = log_folder(state, run)
        size = measure(folder).size
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            emit(Notice(f"the logs of run {run} cannot be deleted: {error.filename}: {error.strerror}"))
            continue
        freed += size
    return freed


def _ended(store: Store, run: str) -> bool | None:
    """Return whether the run has ended; None where the store does not know it."""
    if store.has_ended(run):
        return True
    try:
        store.run(run)
    except UsageError:
        return None
    return False
