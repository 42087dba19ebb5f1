"""What archloom's runs have left on hosts: images, folders of jobs, processes, held slots."""

from __future__ import annotations

from collections.abc import Iterator

from tests.acceptance.leftovers import stays
from tests.chaos.lab import EMULATOR
from tests.chaos.processes import processes_below, processes_of
from tests.chaos.trial import Trial
from tests.services.boards import LIST_IMAGES, Board, ours
from tests.services.judges import docker

# A next run may follow, which sweeps what an earlier one could not: then there is less to wait for.
_PATIENCE_S, _BEFORE_NEXT_S = 20.0, 6.0
# A cancelled build's image may come late: a process waits for it for a minute.
_CLEANING_S = 60.0
_HELD_SLOTS = "for slot in $(find /run/lock -name 'slot-*' -type f); do flock -n $slot true || echo $slot; done"
_DANGLING = ("images", "--digests", "--filter", "dangling=true", "--format", "{{.Repository}}@{{.Digest}} {{.ID}}")


def left_before_next(trial: Trial) -> set[str]:
    """A sentence for each thing that is there after the finishing run."""
    return stays(lambda: set(_left(trial)), _BEFORE_NEXT_S)


def left(trial: Trial) -> set[str]:
    """A sentence for each thing that is still there after its time to go."""
    found = stays(lambda: set(_left(trial)), _PATIENCE_S)
    return stays(lambda: set(_left(trial)), _CLEANING_S) if any(": process " in what for what in found) else found


def _left(trial: Trial) -> Iterator[str]:
    for board in trial.lab.boards.values():
        for what in _of_board(board):
            yield f"{board.name}: {what}"
    for what in _of_emulator(trial):
        yield f"{EMULATOR}: {what}"


def _of_board(board: Board) -> Iterator[str]:
    yield from (f"image {name}" for name in ours(board.docker(*LIST_IMAGES)))
    yield from (f"nameless image {line}" for line in board.docker(*_DANGLING).splitlines())
    yield from (f"container {line}" for line in board.docker("ps", "--all", "--quiet").split())
    for folder in board.home.glob(".local/state/archloom-agent/*/jobs/*"):
        if folder.is_dir():  # a lock and a list are always there
            yield f"folder jobs/{folder.name}"
    yield from (f"process {one.command}" for one in processes_of(board) if one.is_agent)
    yield from (f"slot {slot} is held" for slot in board.run(_HELD_SLOTS).split())


def sweep_emulator(trial: Trial) -> None:
    """Takes away what the trial has left on this machine's engine. Boards are restored by the lab."""
    images = [*_names_on_emulator(trial), *(line.split()[-1] for line in _nameless_on_emulator(trial))]
    if images:
        docker("rmi", "--force", *images)


def _names_on_emulator(trial: Trial) -> list[str]:
    """Others use this machine's engine too: only what is known to be this trial's."""
    words = [*(f"archloom/{run}:" for run in trial.runs), *(f"push:{run}-" for run in trial.runs)]
    words.append(f"localhost:1/{trial.lab.proxy.address.replace(':', '-')}/")
    return [name for name in ours(docker(*LIST_IMAGES)) if any(word in name for word in words)]


def _nameless_on_emulator(trial: Trial) -> list[str]:
    digests = set(trial.lab.base.children.values())
    return [line for line in docker(*_DANGLING).splitlines() if line.partition("@")[2].split()[0] in digests]


def _of_emulator(trial: Trial) -> Iterator[str]:
    yield from (f"image {name}" for name in _names_on_emulator(trial))
    yield from (f"nameless image {line}" for line in _nameless_on_emulator(trial))
    home = trial.desk.home.folder
    yield from (f"folder jobs/{path.name}" for path in home.glob(".local/state/archloom-agent/*/jobs/[!.]*"))
    yield from (f"process {one.command}" for one in processes_below(home) if one.is_agent)
